#pragma once

/// The part of LibTorch that the project uses everywhere, and the precompiled header of all targets: torch/torch.h
/// would more than double the build. Networks add the modules they are made of. What differs between LibTorch 1.13 and
/// the newest belongs here too.
#include <torch/csrc/autograd/generated/variable_factories.h>
#include <torch/types.h>
