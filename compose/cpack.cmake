# The Debian package: `cpack -G DEB` in the build directory makes
# guerdon_VERSION_ARCHITECTURE.deb. `cmake --install` puts the same files under
# the install prefix, and the settings under /etc.
include (GNUInstallDirs)

set (COMPOSE_DIR ${CMAKE_SOURCE_DIR}/compose)
set (UNIT_DIR lib/systemd/system)
# The settings are where the units look for them, whatever the prefix.
set (SETTINGS_DIR /etc/guerdon)

install (TARGETS guerdon RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install (FILES ${COMPOSE_DIR}/systemd/guerdon@.service DESTINATION ${UNIT_DIR})
install (DIRECTORY ${COMPOSE_DIR}/systemd/ DESTINATION ${UNIT_DIR}
         FILES_MATCHING PATTERN "role.conf")
install (FILES ${COMPOSE_DIR}/completion/guerdon.bash RENAME guerdon
         DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install (FILES ${COMPOSE_DIR}/guerdon.env.example RENAME guerdon.env DESTINATION ${SETTINGS_DIR})
install (FILES ${CMAKE_SOURCE_DIR}/README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

# Without a name and a time in it, so that two builds are alike.
set (MANUAL ${CMAKE_BINARY_DIR}/guerdon.1.gz)
add_custom_command (OUTPUT ${MANUAL} COMMAND gzip -9nc ${CMAKE_SOURCE_DIR}/docs/guerdon.1 > ${MANUAL}
                    DEPENDS ${CMAKE_SOURCE_DIR}/docs/guerdon.1 VERBATIM)
add_custom_target (manual ALL DEPENDS ${MANUAL})
install (FILES ${MANUAL} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)

set (CPACK_GENERATOR DEB)
set (CPACK_PACKAGE_NAME guerdon)
set (CPACK_PACKAGE_VENDOR guerdon)
set (CPACK_PACKAGE_CONTACT "guerdon <guerdon@localhost>")
set (CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set (CPACK_PACKAGE_DESCRIPTION
     "A worker that polls an events service and posts rewards to the services of an\n\
application, as small actors over ZeroMQ: in one process, or one on each host.")
set (CPACK_PACKAGING_INSTALL_PREFIX /usr)
set (CPACK_STRIP_FILES ON)
set (CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set (CPACK_DEBIAN_PACKAGE_SECTION net)
set (CPACK_DEBIAN_PACKAGE_PRIORITY optional)
# The libraries with their versions are found in the program itself.
set (CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set (CPACK_DEBIAN_PACKAGE_DEPENDS "ca-certificates, passwd")
foreach (part conffiles postinst prerm postrm)
    list (APPEND CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${COMPOSE_DIR}/debian/${part})
endforeach ()
set (CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include (CPack)
