#include "core/data/labels.h"

#include <ATen/ATen.h>

#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/data/dataset.h"
#include "core/support/error.h"
#include "core/support/file.h"

namespace espq {
namespace {

/// Labels by name of the sample, for its places in the list.
std::vector<int64_t> in_order(const std::map<std::string, int64_t>& labels, const std::vector<std::string>& stems,
                              const std::string& file) {
  std::vector<int64_t> result;
  for (const std::string& stem : stems) {
    const auto found = labels.find(stem);
    user_check(found != labels.end(), "{}: has no label for sample '{}'", file, stem);
    result.push_back(found->second);
  }
  return result;
}

std::vector<int64_t> from_npy(const std::filesystem::path& file) {
  const at::Tensor values = read_npy(file);
  user_check(!values.is_floating_point(), "{}: holds {}, labels are integers", file.string(),
             c10::toString(values.scalar_type()));
  const at::Tensor numbers = values.to(at::kLong).flatten().contiguous();
  return {numbers.data_ptr<int64_t>(), numbers.data_ptr<int64_t>() + numbers.numel()};
}

std::vector<int64_t> from_json(const std::filesystem::path& file, const std::vector<std::string>& stems) {
  const nlohmann::json json = nlohmann::json::parse(read_file(file), nullptr, false);
  user_check(!json.is_discarded(), "{}: is no JSON", file.string());
  user_check(json.is_array() || json.is_object(), "{}: holds neither a list of labels nor an object", file.string());
  for (const auto& label : json)
    user_check(label.is_number_integer(), "{}: the label {} is no integer", file.string(), label.dump());
  if (json.is_array()) return json.get<std::vector<int64_t>>();
  return in_order(json.get<std::map<std::string, int64_t>>(), stems, file.string());
}

std::optional<int64_t> integer(std::string_view word) {
  int64_t value = 0;
  const auto [end, status] = std::from_chars(word.data(), word.data() + word.size(), value);
  return status == std::errc() && end == word.data() + word.size() ? std::optional(value) : std::nullopt;
}

std::vector<int64_t> from_text(const std::filesystem::path& file, const std::vector<std::string>& stems) {
  constexpr std::string_view separators = " \t,;\r";
  const std::string text = read_file(file);
  std::vector<int64_t> list;
  std::map<std::string, int64_t> named;
  size_t number = 0;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    std::string_view line(text.data() + start, end - start);
    start = end + 1;
    ++number;
    line = line.substr(0, line.find_last_not_of(separators) + 1);
    if (line.empty() || line[0] == '#') continue;
    const size_t last = line.find_last_of(separators);
    const auto label = integer(line.substr(last == std::string_view::npos ? 0 : last + 1));
    user_check(label.has_value(), "{}: line {} does not end in a class number", file.string(), number);
    if (last == std::string_view::npos) {
      list.push_back(*label);
    } else {
      const std::string stem(line.substr(0, line.find_last_not_of(separators, last) + 1));
      user_check(named.emplace(stem, *label).second, "{}: sample '{}' has two labels", file.string(), stem);
    }
  }
  user_check(list.empty() || named.empty(), "{}: some lines name their sample and some do not", file.string());
  return named.empty() ? list : in_order(named, stems, file.string());
}

}  // namespace

std::vector<int64_t> read_labels(const std::filesystem::path& file, const std::vector<std::string>& stems) {
  if (file.extension() == ".npy") return from_npy(file);
  return file.extension() == ".json" ? from_json(file, stems) : from_text(file, stems);
}

}  // namespace espq
