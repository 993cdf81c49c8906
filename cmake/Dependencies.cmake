# Every third-party library under one name, so that a folder's CMakeLists.txt shows what it leans on.
# Debian 12 package names are in packaging/deps.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)
find_package(Boost 1.81 REQUIRED COMPONENTS json url)

add_library(deps_spdlog INTERFACE)
add_library(deps::spdlog ALIAS deps_spdlog)
find_package(spdlog REQUIRED)
target_link_libraries(deps_spdlog INTERFACE spdlog::spdlog)

function(antipode_pkg alias module)
    pkg_check_modules(PKG_${alias} REQUIRED IMPORTED_TARGET ${module})
    add_library(deps_${alias} INTERFACE)
    add_library(deps::${alias} ALIAS deps_${alias})
    target_link_libraries(deps_${alias} INTERFACE PkgConfig::PKG_${alias})
endfunction()
antipode_pkg(zmq libzmq)
antipode_pkg(nbd libnbd)
antipode_pkg(zstd libzstd)
antipode_pkg(xxhash libxxhash)
antipode_pkg(sqlite sqlite3)
antipode_pkg(systemd libsystemd)
antipode_pkg(seccomp libseccomp)

add_library(deps_json INTERFACE)
add_library(deps::json ALIAS deps_json)
target_link_libraries(deps_json INTERFACE Boost::json)

add_library(deps_url INTERFACE)
add_library(deps::url ALIAS deps_url)
target_link_libraries(deps_url INTERFACE Boost::url)

# Asio and Beast are compiled once, into this library (BOOST_ASIO_SEPARATE_COMPILATION).
add_library(deps_asio STATIC ${CMAKE_SOURCE_DIR}/cmake/asio_beast.cc)
add_library(deps::asio ALIAS deps_asio)
# Its thread-local variables have to work in the nbdkit plugin, too.
set_target_properties(deps_asio PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_compile_definitions(deps_asio PUBLIC BOOST_ASIO_SEPARATE_COMPILATION BOOST_BEAST_SEPARATE_COMPILATION
    BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_DISABLE_BOOST_COROUTINE)
target_link_libraries(deps_asio PUBLIC Boost::headers OpenSSL::SSL OpenSSL::Crypto Threads::Threads)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Asio allocates coroutine frames with its own pair of functions; inlined, GCC 12 takes them for a mismatch.
    target_compile_options(deps_asio PUBLIC -Wno-mismatched-new-delete)
endif()
