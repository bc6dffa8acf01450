# Every tests/e2e/test_NAME.py runs the program against stand-ins of the three
# services. Those that measure processor time or memory run alone.
set (E2E_ALONE test_polling test_memory)

find_program (PYTHON3 python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
file (GLOB E2E_TESTS CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/test_*.py)
foreach (file IN LISTS E2E_TESTS)
    get_filename_component (name ${file} NAME_WE)
    add_test (NAME e2e/${name} COMMAND ${PYTHON3} -B ${file})
    set_tests_properties (e2e/${name} PROPERTIES LABELS e2e TIMEOUT 300
                          ENVIRONMENT "GUERDON=$<TARGET_FILE:guerdon>")
    if (name IN_LIST E2E_ALONE)
        set_tests_properties (e2e/${name} PROPERTIES RUN_SERIAL TRUE)
    endif ()
endforeach ()
