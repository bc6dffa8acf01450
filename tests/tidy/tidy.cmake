# What can be checked of the house by command. Every check is a test with the
# label "tidy"; what it says names file, line and rule.
find_program (TIDY_PYTHON python3 REQUIRED)
set (TIDY_DIR ${CMAKE_SOURCE_DIR}/tests/tidy)

function (guerdon_tidy name)
    add_test (NAME tidy/${name} COMMAND ${ARGN} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties (tidy/${name} PROPERTIES LABELS tidy TIMEOUT 120
                          ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
endfunction ()

# docs/messages.md is what the tables say.
add_executable (print_messages ${TIDY_DIR}/print_messages.c)
target_link_libraries (print_messages PRIVATE proto)
guerdon_tidy (messages ${TIDY_DIR}/messages $<TARGET_FILE:print_messages>
              ${CMAKE_SOURCE_DIR}/docs/messages.md)

# The rooms, and all they are linked with, are pure.
set (TIDY_ARCHIVES $<TARGET_FILE:contract> $<TARGET_FILE:proto>)
foreach (room IN LISTS ROOM_TARGETS)
    list (APPEND TIDY_ARCHIVES $<TARGET_FILE:${room}>)
endforeach ()
guerdon_tidy (purity ${TIDY_PYTHON} ${TIDY_DIR}/purity.py ${CMAKE_NM} ${TIDY_ARCHIVES})

# The rules of the source, one test a rule.
foreach (rule directions libraries prototypes banned length words format)
    guerdon_tidy (${rule} ${TIDY_PYTHON} ${TIDY_DIR}/source.py ${rule} ${CMAKE_SOURCE_DIR})
endforeach ()

# The checks themselves: each is shown a file that breaks its rule.
guerdon_tidy (itself ${TIDY_PYTHON} ${TIDY_DIR}/test_source.py)
guerdon_tidy (runbook_itself ${TIDY_PYTHON} ${TIDY_DIR}/test_runbook.py)
guerdon_tidy (purity_itself ${TIDY_PYTHON} ${TIDY_DIR}/test_purity.py ${CMAKE_NM} ${CMAKE_C_COMPILER} ${CMAKE_AR})

# The runbook knows every line of the log and every metric.
guerdon_tidy (runbook ${TIDY_PYTHON} ${TIDY_DIR}/runbook $<TARGET_FILE:guerdon> ${CMAKE_SOURCE_DIR})

# The README keeps its word. The quickstart builds a fresh clone, so it takes a
# while and the processors.
guerdon_tidy (readme_table ${TIDY_PYTHON} ${TIDY_DIR}/readme table $<TARGET_FILE:guerdon> ${CMAKE_SOURCE_DIR})
guerdon_tidy (readme_quickstart ${TIDY_PYTHON} ${TIDY_DIR}/readme quickstart ${CMAKE_SOURCE_DIR})
set_tests_properties (tidy/readme_quickstart PROPERTIES TIMEOUT 1200 RUN_SERIAL TRUE)
