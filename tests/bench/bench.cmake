# Programs that `guerdon bench` runs beside the one it measures, and the smoke run
# of every scenario.
add_executable (bench_stub ${CMAKE_CURRENT_LIST_DIR}/stub.c)
add_executable (bench_reference ${CMAKE_CURRENT_LIST_DIR}/reference.c)
target_compile_options (bench_reference PRIVATE -O3)
target_link_libraries (bench_reference PRIVATE PkgConfig::CURL PkgConfig::YAJL)
add_executable (bench_hop ${CMAKE_CURRENT_LIST_DIR}/hop.c)
target_link_libraries (bench_hop PRIVATE base)
add_library (slow_sync SHARED ${CMAKE_CURRENT_LIST_DIR}/slow_sync.c)
set_target_properties (slow_sync PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
target_link_libraries (slow_sync PRIVATE ${CMAKE_DL_LIBS})
configure_file (${CMAKE_CURRENT_LIST_DIR}/bench.py ${CMAKE_BINARY_DIR}/bin/guerdon-bench COPYONLY)

if (NOT GUERDON_SANITIZE)
    add_test (NAME bench/smoke COMMAND ${CMAKE_BINARY_DIR}/bin/guerdon bench --small --runs 1)
    add_test (NAME bench/instructions
              COMMAND ${CMAKE_CURRENT_LIST_DIR}/instructions.py ${CMAKE_BINARY_DIR}/bin
                      ${CMAKE_CURRENT_LIST_DIR}/baseline.json)
    set_tests_properties (bench/instructions PROPERTIES LABELS bench TIMEOUT 300)
    set_tests_properties (bench/smoke PROPERTIES LABELS bench TIMEOUT 300 RUN_SERIAL ON)
endif ()
