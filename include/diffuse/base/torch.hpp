#pragma once

/// The part of LibTorch that the project uses everywhere, and the precompiled header of all targets: torch/torch.h
/// would more than double the build. Networks add the modules they are made of. What differs between LibTorch 1.13 and
/// the newest belongs here too.
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/generated/variable_factories.h>
#include <torch/types.h>
#include <torch/version.h>

#include <string>

namespace diffuse {

/// Hands what LibTorch warns of on to a function.
class WarningsTo : public c10::WarningHandler {
public:
    explicit WarningsTo(void (*warn)(const std::string&)) : warn_(warn) {}
#if TORCH_VERSION_MAJOR < 2
    void process(const c10::SourceLocation&, const std::string& message, bool) override { warn_(message); }
#else
    void process(const c10::Warning& warning) override { warn_(warning.msg()); }
#endif

private:
    void (*warn_)(const std::string&);
};

#if TORCH_VERSION_MAJOR < 2
using c10::Warning::set_warning_handler;
#else
using c10::WarningUtils::set_warning_handler;
#endif

}  // namespace diffuse
