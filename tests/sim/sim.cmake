# The simulator: the rooms, the contract, the sessions and the outbox compiled a
# second time, with deliberate mistakes that can be switched on, and everything
# around them simulated. See docs/simulation.md.
file (GLOB SIM_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/sim*.c)
set (SIM_CORES ${CONTRACT_SOURCES} ${CMAKE_SOURCE_DIR}/actors/base/session.c
     ${CMAKE_SOURCE_DIR}/actors/base/outbox.c)
foreach (room IN LISTS ROOMS)
    file (GLOB ROOM_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/actors/${room}/*.c)
    list (APPEND SIM_CORES ${ROOM_SOURCES})
endforeach ()
list (TRANSFORM SIM_CORES REPLACE "^(include/)" "${CMAKE_SOURCE_DIR}/\\1")

add_executable (sim ${SIM_SOURCES} ${SIM_CORES})
target_compile_definitions (sim PRIVATE GUERDON_MISTAKES)
target_link_libraries (sim PRIVATE proto)

function (guerdon_sim name)
    add_test (NAME sim/${name} COMMAND sim ${ARGN})
    set_tests_properties (sim/${name} PROPERTIES LABELS sim TIMEOUT 600)
endfunction ()

set (SIM_STRIDE 4)
if (GUERDON_SANITIZE)
    set (SIM_STRIDE 60)
endif ()

# A fixed set of seeds; ten mistakes that must be found; every single place where a
# process may die, and one of so many pairs of places.
guerdon_sim (seeds --seeds 1-1000)
guerdon_sim (mistakes --mistakes 1000)
guerdon_sim (crash_points --crash-points ${SIM_STRIDE})

# How the rate grows with decision shards, for `guerdon bench shards`.
add_executable (bench_cluster ${CMAKE_CURRENT_LIST_DIR}/cluster.c ${CMAKE_CURRENT_LIST_DIR}/cluster_services.c)
target_link_libraries (bench_cluster PRIVATE ${ROOM_TARGETS} base)
