# Every tests/e2e/test_NAME.py runs the program against stand-ins of the three
# services. Those that measure processor time or memory run alone.
set (E2E_ALONE test_polling test_memory test_network test_taps)

# In every test run these suites run in the other shapes too (shapes.py): what
# goes over the wire, the rule, and a service of each kind failing and gone.
# Everything in every shape is tests/e2e/campaign, which takes much longer.
set (E2E_SHAPES ipc tcp-curve netns-curve shards)
set (E2E_SHAPE_SUITES test_rule test_wire test_faults)
set (E2E_SMOKE_test_faults Outages Faults.test_reads_hang Faults.test_writes_are_reset_after_applying
     Faults.test_rewards_answer_500 Faults.test_polls_are_half)

find_program (PYTHON3 python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)

# The program as a later version of it will be (proto/limits.h): what speaks the
# protocol is compiled anew, all else is the same. Never installed.
function (guerdon_later name version min max)
    add_executable (${name} ${CMAKE_SOURCE_DIR}/bin/main.c ${CMAKE_SOURCE_DIR}/proto/codec.c
                    ${CMAKE_SOURCE_DIR}/actors/base/session.c ${CMAKE_SOURCE_DIR}/actors/base/bus.c)
    target_compile_definitions (${name} PRIVATE PROTOCOL_MIN=${min} PROTOCOL_MAX=${max}
                                PROTOCOL_FIELDS_MORE=2 PROTOCOL_CAPABILITIES=0x8000000000000001)
    target_compile_options (${name} PRIVATE -UGUERDON_VERSION -DGUERDON_VERSION="${version}")
    target_link_libraries (${name} PRIVATE program)
endfunction ()
guerdon_later (guerdon_next 0.2.0 1 2)
guerdon_later (guerdon_later 0.3.0 2 3)

function (guerdon_e2e_test name file shape)
    add_test (NAME ${name} COMMAND ${PYTHON3} -B ${file} ${ARGN})
    set_tests_properties (${name} PROPERTIES LABELS e2e TIMEOUT 300
                          ENVIRONMENT 
                          "GUERDON=$<TARGET_FILE:guerdon>;GUERDON_CRASH=$<TARGET_FILE:guerdon_crash>;SHAPE=${shape}")
endfunction ()

file (GLOB E2E_TESTS CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/test_*.py)
foreach (file IN LISTS E2E_TESTS)
    get_filename_component (name ${file} NAME_WE)
    guerdon_e2e_test (e2e/${name} ${file} one)
    if (name IN_LIST E2E_ALONE)
        set_tests_properties (e2e/${name} PROPERTIES RUN_SERIAL TRUE)
    endif ()
    if (name IN_LIST E2E_SHAPE_SUITES)
        foreach (shape IN LISTS E2E_SHAPES)
            guerdon_e2e_test (e2e/${shape}/${name} ${file} ${shape} ${E2E_SMOKE_${name}})
        endforeach ()
    endif ()
endforeach ()

# Three decisions have three journals.
guerdon_e2e_test (e2e/shards/test_ledger ${CMAKE_CURRENT_LIST_DIR}/test_ledger.py shards Ledger)
