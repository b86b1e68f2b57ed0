# Finds LibTorch, first that works:
#   1. Torch_DIR or CMAKE_PREFIX_PATH, as given by the user
#   2. the torch package of the active Python
#   3. the wheel that scripts/setup puts into .venv
#   4. the system's libtorch-dev
# -DDIFFUSE_LIBTORCH=system goes straight to 4.
#
#   cmake -DLIBTORCH_QUERY=ON -P cmake/FindLibTorch.cmake    succeeds when 1 to 3 has one

# The folder of TorchConfig.cmake inside a Python's torch package; the package is located, not imported.
function(libtorch_of_python python out)
    execute_process(
        COMMAND ${python} -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
        OUTPUT_VARIABLE package OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed AND EXISTS "${package}/share/cmake/Torch/TorchConfig.cmake")
        set(${out} "${package}/share/cmake/Torch" PARENT_SCOPE)
    endif()
endfunction()

function(find_libtorch_dir out)
    set(dir "${Torch_DIR}")
    foreach(prefix ${CMAKE_PREFIX_PATH} $ENV{CMAKE_PREFIX_PATH} $ENV{Torch_DIR})
        if(NOT dir AND EXISTS "${prefix}/share/cmake/Torch/TorchConfig.cmake")
            set(dir "${prefix}/share/cmake/Torch")
        elseif(NOT dir AND EXISTS "${prefix}/TorchConfig.cmake")
            set(dir "${prefix}")
        endif()
    endforeach()
    foreach(python python3 "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../.venv/bin/python")
        if(NOT dir)
            libtorch_of_python("${python}" dir)
        endif()
    endforeach()
    set(${out} "${dir}" PARENT_SCOPE)
endfunction()

if(LIBTORCH_QUERY)
    find_libtorch_dir(dir)
    if(NOT dir)
        message(FATAL_ERROR "no LibTorch besides the system's")
    endif()
    message(STATUS "${dir}")
    return()
endif()

set(DIFFUSE_LIBTORCH "auto" CACHE STRING "auto: the first LibTorch that is found; system: the system's libtorch-dev")
if(NOT DIFFUSE_LIBTORCH STREQUAL "system")
    find_libtorch_dir(dir)
    if(dir)
        set(Torch_DIR "${dir}" CACHE PATH "folder of TorchConfig.cmake")
        # With libtorch-dev installed too, the wheel's own CMake files would pick up the system's libraries, and the
        # program would abort at start with two copies of libc10.
        cmake_path(SET lib NORMALIZE "${dir}/../../../lib")
        set(TORCH_LIBRARY "${lib}/libtorch.so" CACHE FILEPATH "" FORCE)
        set(c10_LIBRARY "${lib}/libc10.so" CACHE FILEPATH "" FORCE)
    endif()
endif()
find_package(Torch REQUIRED)
message(STATUS "LibTorch ${Torch_VERSION}: ${Torch_DIR}")
