# Finds LibTorch, first that works:
#   1. Torch_DIR or CMAKE_PREFIX_PATH, as given by the user
#   2. the torch package of the active Python
#   3. the wheel that scripts/setup puts into .venv
#   4. the system's libtorch-dev
# -DDIFFUSE_LIBTORCH=system goes straight to 4.
#
#   cmake -DLIBTORCH_QUERY=ON -P cmake/FindLibTorch.cmake    succeeds when 1 to 3 has one

# The folder of TorchConfig.cmake inside a Python's torch package; the package is located, not imported. Packages that
# could not be built on are passed over: for CUDA where there is no CUDA compiler, and those with the old C++ ABI.
function(libtorch_of_python python out)
    execute_process(
        COMMAND ${python} -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
        OUTPUT_VARIABLE package OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    set(config "${package}/share/cmake/Torch/TorchConfig.cmake")
    if(failed OR NOT EXISTS "${config}")
        return()
    endif()
    file(STRINGS "${config}" old_abi REGEX "_GLIBCXX_USE_CXX11_ABI=0")
    file(STRINGS "${package}/version.py" cuda REGEX "^cuda.*= *'")
    find_program(NVCC nvcc HINTS "$ENV{CUDA_HOME}/bin" /usr/local/cuda/bin NO_CACHE)
    if(NOT old_abi AND (NOT cuda OR NVCC))
        set(${out} "${package}/share/cmake/Torch" PARENT_SCOPE)
    endif()
endfunction()

function(find_libtorch_dir out)
    set(dir)
    foreach(folder "${Torch_DIR}" "$ENV{Torch_DIR}" ${CMAKE_PREFIX_PATH} $ENV{CMAKE_PREFIX_PATH})
        foreach(candidate "${folder}" "${folder}/share/cmake/Torch")
            if(NOT dir AND EXISTS "${candidate}/TorchConfig.cmake")
                set(dir "${candidate}")
            endif()
        endforeach()
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
set(dir)
if(NOT DIFFUSE_LIBTORCH STREQUAL "system")
    find_libtorch_dir(dir)
endif()
# An earlier configuration may have left another LibTorch in the cache.
foreach(variable Torch_DIR Caffe2_DIR TORCH_LIBRARY c10_LIBRARY)
    unset(${variable} CACHE)
endforeach()
set(LIBTORCH_LIBRARY_DIR)
if(dir)
    set(Torch_DIR "${dir}" CACHE PATH "folder of TorchConfig.cmake")
    # With libtorch-dev installed too, the wheel's own CMake files would pick up the system's, and the program would not
    # link, or abort at start with two copies of libc10.
    if(EXISTS "${dir}/../Caffe2/Caffe2Config.cmake")
        set(Caffe2_DIR "${dir}/../Caffe2" CACHE PATH "")
    endif()
    cmake_path(SET lib NORMALIZE "${dir}/../../../lib")
    if(EXISTS "${lib}/libtorch.so")
        set(TORCH_LIBRARY "${lib}/libtorch.so" CACHE FILEPATH "")
        set(c10_LIBRARY "${lib}/libc10.so" CACHE FILEPATH "")
        set(LIBTORCH_LIBRARY_DIR "${lib}")
    endif()
endif()
find_package(Torch REQUIRED)
message(STATUS "LibTorch ${Torch_VERSION}: ${Torch_DIR}")
