#include "export/espdl/model.h"

#include <algorithm>

namespace espq {
namespace {

template <typename Items>
auto find_named(const Items& items, std::string_view name) {
  const auto found = std::find_if(items.begin(), items.end(), [&](const auto& item) { return item.name == name; });
  return found == items.end() ? nullptr : &*found;
}

}  // namespace

int64_t EspdlTensor::element_count() const {
  int64_t count = 1;
  for (const int64_t dim : dims) count *= dim;
  return count;
}

std::string_view EspdlTensor::bytes() const {
  if (!raw) return {};
  return std::string_view(*raw).substr(0, static_cast<size_t>(element_count()) * element_size(type));
}

std::string pad_to_blocks(std::string bytes) {
  bytes.resize((bytes.size() + 15) / 16 * 16, '\0');
  return bytes;
}

const EspdlAttribute* EspdlNode::find_attribute(std::string_view key) const { return find_named(attributes, key); }
const EspdlTensor* EspdlModel::find_initializer(std::string_view name) const { return find_named(initializers, name); }
const EspdlValueInfo* EspdlModel::find_value_info(std::string_view name) const { return find_named(value_infos, name); }

const std::string* EspdlModel::find_metadata(std::string_view key) const {
  for (const auto& [name, value] : metadata)
    if (name == key) return &value;
  return nullptr;
}

}  // namespace espq
