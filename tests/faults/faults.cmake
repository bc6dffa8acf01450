# Places of the program made to fail one at a time: the library that does it, and
# a sample of them in every test run. All of them is tests/faults/campaign. A
# sanitizer has a malloc of its own, so there is nothing of this in its builds.
if (NOT GUERDON_SANITIZE)
    add_library (inject MODULE ${CMAKE_CURRENT_LIST_DIR}/inject.c)
    set_target_properties (inject PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
    # Fortified headers define some of these functions themselves, and a compiler
    # that knows malloc makes calloc of it, within calloc too.
    target_compile_options (inject PRIVATE "SHELL:-U _FORTIFY_SOURCE" -fno-builtin)
    target_link_libraries (inject PRIVATE ${CMAKE_DL_LIBS})
    add_test (NAME faults/sample
              COMMAND ${PYTHON3} -B ${CMAKE_CURRENT_LIST_DIR}/campaign --sample 25 --seed 1)
    set_tests_properties (faults/sample PROPERTIES LABELS faults TIMEOUT 300 ENVIRONMENT
                          "GUERDON=$<TARGET_FILE:guerdon>;INJECT=$<TARGET_FILE:inject>")
endif ()
