#pragma once
#include <string>

#include "core/analysis/compare.h"

namespace espq {

/// A comparison as one HTML page that needs no other file: figures per output, error per layer, the layers that make
/// most of the error with cause, advice, and their values against the representable range. `title_a` and `title_b` say
/// what was compared.
std::string comparison_page(const Comparison& comparison, const std::string& title_a, const std::string& title_b);

}  // namespace espq
