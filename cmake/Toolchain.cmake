# Warnings, sanitizers, ccache, and the one way in which a target of ours is made.

find_program(CCACHE ccache)
if(CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER
        ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros
        CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CCACHE})
    set(CMAKE_C_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()

add_compile_options(-Wall -Wextra -Wconversion -Wshadow -Wnon-virtual-dtor
    -fno-omit-frame-pointer -ffile-prefix-map=${CMAKE_SOURCE_DIR}=.)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC 12 reports these in its own standard library and in Boost when it inlines (PR 105329, PR 105562).
    add_compile_options(-Wno-restrict -Wno-stringop-overflow -Wno-stringop-overread -Wno-array-bounds
        -Wno-maybe-uninitialized $<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
endif()
# Warnings are errors in every build that ships. GCC 12 invents some of its own when the sanitizers' code is in the
# way; there they are shown.
if(NOT ANTIPODE_SANITIZE)
    add_compile_options(-Werror)
endif()
if(ANTIPODE_SANITIZE)
    add_compile_options(-fsanitize=${ANTIPODE_SANITIZE} -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${ANTIPODE_SANITIZE})
    # Some two hundred test programs of tens of megabytes each: the linker that uses all cores saves minutes. What ships
    # is linked by the distribution's own.
    find_program(MOLD mold)
    if(MOLD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
        add_link_options(-fuse-ld=mold)
    endif()
    if(ANTIPODE_SANITIZE MATCHES "thread")
        # Asio uses atomic fences that GCC's TSan does not model; it has its own annotations.
        add_compile_options(-Wno-tsan)
    endif()
else()
    add_compile_options(-D_FORTIFY_SOURCE=2 -fstack-protector-strong)
endif()
if(ANTIPODE_FUZZ)
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# antipode_library(NAME SOURCES... [DEPENDS ...] [PRIVATE_DEPENDS ...])
# A static library whose include root is the source tree. DEPENDS is the include rule of docs/STYLE.md as
# a link rule: what is not named here does not link.
function(antipode_library name)
    cmake_parse_arguments(A "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
    add_library(${name} STATIC ${A_SOURCES})
    target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
    target_link_libraries(${name} PUBLIC ${A_DEPENDS} PRIVATE ${A_PRIVATE_DEPENDS})
    antipode_pch(${name})
endfunction()

# Files that all read the same large headers are compiled some at a time, as one: less of it is done again. No two of them may
# have a name of their own in common.
function(antipode_unity name)
    set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 6)
endfunction()

function(antipode_executable name)
    cmake_parse_arguments(A "" "" "SOURCES;DEPENDS" ${ARGN})
    add_executable(${name} ${A_SOURCES})
    target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
    target_link_libraries(${name} PRIVATE ${A_DEPENDS})
    antipode_pch(${name})
endfunction()

# One set of precompiled standard headers, built once and shared.
function(antipode_pch name)
    if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
        return()
    endif()
    if(NOT TARGET antipode_pch)
        if(NOT EXISTS ${CMAKE_BINARY_DIR}/pch.cc)  # each write would build it again
            file(WRITE ${CMAKE_BINARY_DIR}/pch.cc "")
        endif()
        add_library(antipode_pch OBJECT ${CMAKE_BINARY_DIR}/pch.cc)
        target_precompile_headers(antipode_pch PRIVATE
            <algorithm> <array> <atomic> <bit> <chrono> <compare> <concepts> <cstddef> <cstdint> <cstring>
            <deque> <functional> <map> <memory> <mutex> <optional> <set> <span> <string> <string_view>
            <thread> <tuple> <type_traits> <unordered_map> <utility> <variant> <vector>
            <tl/expected.hpp> <spdlog/spdlog.h>)
        target_link_libraries(antipode_pch PRIVATE deps::spdlog)
    endif()
    target_precompile_headers(${name} REUSE_FROM antipode_pch)
endfunction()
