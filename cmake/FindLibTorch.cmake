# Finds LibTorch and makes the target LibTorch, from the first of these that there is:
#   1. Torch_DIR or CMAKE_PREFIX_PATH, as given by the user
#   2. the torch package of the active Python
#   3. the wheel that scripts/setup puts into .venv
#   4. the system's libtorch-dev
# -DDIFFUSE_LIBTORCH=cuda or cpu takes from 2 and 3 only one of that kind; =system goes straight to 4; auto, the default,
# takes from 2 and 3 one for CUDA where there is a GPU, and else the first.
#
# The libraries of a wheel or of a downloaded LibTorch are linked as they are, without the CMake files beside them:
# those of a LibTorch for CUDA demand the CUDA toolkit, which few people have and the program does not need, and where
# libtorch-dev is installed too they find its libc10 beside their own.
#
#   cmake -DLIBTORCH_QUERY=ON -P cmake/FindLibTorch.cmake    succeeds when 1 to 3 has one

set(DIFFUSE_LIBTORCH "auto" CACHE STRING "auto, cuda, cpu or system; see cmake/FindLibTorch.cmake")

# The folder of a LibTorch whose TorchConfig.cmake lies in `config_dir`, if its libraries are there to be linked.
function(folder_of config_dir out)
    get_filename_component(folder "${config_dir}/../../.." ABSOLUTE)
    if(EXISTS "${folder}/lib/libtorch.so" AND EXISTS "${folder}/include/torch/csrc/api/include")
        set(${out} "${folder}" PARENT_SCOPE)
    endif()
endfunction()

# The torch package of a Python, which is located, not imported. One with the old C++ ABI is passed over, as the program
# would not link.
function(package_of python out)
    execute_process(
        COMMAND ${python} -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
        OUTPUT_VARIABLE package OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    set(config "${package}/share/cmake/Torch/TorchConfig.cmake")
    if(failed OR NOT EXISTS "${config}")
        return()
    endif()
    file(STRINGS "${config}" old_abi REGEX "_GLIBCXX_USE_CXX11_ABI=0")
    if(NOT old_abi)
        set(${out} "${package}/share/cmake/Torch" PARENT_SCOPE)
    endif()
endfunction()

# The first torch package, of the active Python or in .venv, of a kind: cuda, cpu or any.
function(find_package_of_kind kind out)
    foreach(python python3 "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../.venv/bin/python")
        set(dir)
        package_of("${python}" dir)
        set(this_kind cpu)
        if(EXISTS "${dir}/../../../lib/libtorch_cuda.so")
            set(this_kind cuda)
        endif()
        if(dir AND (kind STREQUAL "any" OR kind STREQUAL this_kind))
            set(${out} "${dir}" PARENT_SCOPE)
            return()
        endif()
    endforeach()
endfunction()

# The kinds of packages to look for, the best first.
function(wanted_kinds out)
    set(kinds ${DIFFUSE_LIBTORCH})
    if(DIFFUSE_LIBTORCH STREQUAL "auto")
        execute_process(COMMAND nvidia-smi --list-gpus OUTPUT_VARIABLE gpus ERROR_QUIET RESULT_VARIABLE failed)
        set(kinds any)
        if(NOT failed AND gpus MATCHES "GPU [0-9]")
            set(kinds cuda any)
        endif()
    endif()
    set(${out} ${kinds} PARENT_SCOPE)
endfunction()

# The folder of TorchConfig.cmake of the LibTorch to build on, besides the system's.
function(find_libtorch_dir out)
    set(dir)
    string(REPLACE ":" ";" prefixes "$ENV{CMAKE_PREFIX_PATH}")  # as shells write lists of folders
    foreach(folder "${Torch_DIR}" "$ENV{Torch_DIR}" ${CMAKE_PREFIX_PATH} ${prefixes})
        foreach(candidate "${folder}" "${folder}/share/cmake/Torch")
            if(NOT dir AND EXISTS "${candidate}/TorchConfig.cmake")
                set(dir "${candidate}")
            endif()
        endforeach()
    endforeach()
    wanted_kinds(kinds)
    foreach(kind ${kinds})
        if(NOT dir)
            find_package_of_kind(${kind} dir)
        endif()
    endforeach()
    set(${out} "${dir}" PARENT_SCOPE)
endfunction()

if(NOT DIFFUSE_LIBTORCH MATCHES "^(auto|cuda|cpu|system)$")
    message(FATAL_ERROR "DIFFUSE_LIBTORCH is '${DIFFUSE_LIBTORCH}'; expected auto, cuda, cpu or system")
endif()
set(dir)
if(NOT DIFFUSE_LIBTORCH STREQUAL "system")
    find_libtorch_dir(dir)
endif()

if(LIBTORCH_QUERY)
    if(NOT dir)
        message(FATAL_ERROR "no LibTorch of this kind besides the system's")
    endif()
    message(STATUS "${dir}")
    return()
endif()
if(NOT dir AND DIFFUSE_LIBTORCH STREQUAL "cuda")
    message(FATAL_ERROR "no LibTorch for CUDA: DIFFUSE_LIBTORCH=cuda scripts/setup installs one (3 GB to download), or "
                        "give Torch_DIR")
endif()

add_library(LibTorch INTERFACE)
set(LIBTORCH_LIBRARY_DIR)
set(folder)
if(dir)
    folder_of("${dir}" folder)
endif()
if(folder)
    set(libraries)
    foreach(name torch torch_cpu c10 torch_cuda c10_cuda)
        if(EXISTS "${folder}/lib/lib${name}.so")
            list(APPEND libraries "${folder}/lib/lib${name}.so")
        endif()
    endforeach()
    target_include_directories(LibTorch SYSTEM INTERFACE
        "${folder}/include" "${folder}/include/torch/csrc/api/include")
    # Nothing calls libtorch_cuda by name: it makes itself known when it is loaded.
    target_link_options(LibTorch INTERFACE LINKER:--no-as-needed)
    target_link_libraries(LibTorch INTERFACE ${libraries})
    set(LIBTORCH_LIBRARY_DIR "${folder}/lib")
    message(STATUS "LibTorch: ${folder}")
else()
    # An earlier configuration may have left another LibTorch in the cache.
    foreach(variable Caffe2_DIR TORCH_LIBRARY c10_LIBRARY)
        unset(${variable} CACHE)
    endforeach()
    if(NOT dir)
        unset(Torch_DIR CACHE)
    endif()
    find_package(Torch REQUIRED)
    target_link_libraries(LibTorch INTERFACE ${TORCH_LIBRARIES})
    message(STATUS "LibTorch ${Torch_VERSION}: ${Torch_DIR}")
    if(NOT dir)
        unset(Torch_DIR CACHE)  # only what the user gives stays there
    endif()
endif()
