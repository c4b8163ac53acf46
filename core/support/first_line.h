#pragma once
#include <exception>
#include <string>

namespace espq {

/// The first line of what an exception says, for LibTorch's without the places it passed through.
std::string first_line(const std::exception& error);

}  // namespace espq
