# Processes that are killed. guerdon_crash is the program with its crash points
# (crash_point.h): the files that have some are compiled anew, all else is the same.
# Never installed. The option GUERDON_CRASH_POINTS puts them into the program itself.
add_executable (guerdon_crash ${CMAKE_SOURCE_DIR}/bin/main.c ${CMAKE_CURRENT_LIST_DIR}/crash_point.c
                ${CMAKE_SOURCE_DIR}/actors/base/shell.c ${CMAKE_SOURCE_DIR}/actors/base/journal.c
                ${CMAKE_SOURCE_DIR}/actors/base/http_client.c)
target_compile_definitions (guerdon_crash PRIVATE GUERDON_CRASH_POINTS)
target_link_libraries (guerdon_crash PRIVATE program)
add_test (NAME chaos/points COMMAND ${PYTHON3} -B ${CMAKE_CURRENT_LIST_DIR}/points --seconds 30)
set_tests_properties (chaos/points PROPERTIES LABELS chaos TIMEOUT 300
                      ENVIRONMENT "GUERDON_CRASH=$<TARGET_FILE:guerdon_crash>")
if (TARGET inject)
    set (CHAOS_INJECT $<TARGET_FILE:inject>)
endif ()
add_test (NAME chaos/run COMMAND ${PYTHON3} -B ${CMAKE_CURRENT_LIST_DIR}/run --minutes 0.3)
set_tests_properties (chaos/run PROPERTIES LABELS chaos TIMEOUT 300
                      ENVIRONMENT "GUERDON=$<TARGET_FILE:guerdon>;INJECT=${CHAOS_INJECT}")
