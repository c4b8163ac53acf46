#include "core/support/text.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace espq {
namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  const auto distance = [&](const std::string& candidate) {
    return std::pair(!candidate.starts_with(name), edit_distance(name, candidate));  // a name cut short comes first
  };
  const auto nearest = std::min_element(candidates.begin(), candidates.end(),
                                        [&](const auto& a, const auto& b) { return distance(a) < distance(b); });
  return nearest == candidates.end() ? std::string() : *nearest;
}

}  // namespace espq
