#include "qat/detection/coco.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/support/error.h"
#include "core/support/file.h"

namespace espq::detection {
namespace {

using nlohmann::json;

/// One entry of a list in the file; messages say where it stands.
class Entry {
 public:
  Entry(const json& value, std::string where) : value_(value), where_(std::move(where)) {
    user_check(value.is_object(), "{}: expected an object, found {}", where_, value.type_name());
  }
  const std::string& where() const { return where_; }
  bool has(const char* key) const { return value_.contains(key) && !value_[key].is_null(); }
  const json& at(const char* key) const {
    user_check(has(key), "{}: '{}' is missing", where_, key);
    return value_[key];
  }
  int64_t integer(const char* key) const {
    const json& value = at(key);
    user_check(value.is_number_integer(), "{}: '{}' is {}; expected an integer", where_, key, value.dump());
    return value.get<int64_t>();
  }
  int64_t positive(const char* key) const {
    const int64_t value = integer(key);
    user_check(value > 0, "{}: '{}' is {}; expected a positive number", where_, key, value);
    return value;
  }
  std::string text(const char* key) const {
    const json& value = at(key);
    user_check(value.is_string(), "{}: '{}' is {}; expected a text", where_, key, value.dump());
    return value.get<std::string>();
  }
  std::vector<double> numbers(const char* key) const {
    const json& value = at(key);
    user_check(value.is_array(), "{}: '{}' is {}; expected a list of numbers", where_, key, value.type_name());
    std::vector<double> result;
    for (const json& element : value) {
      user_check(element.is_number(), "{}: '{}' holds {}; expected numbers", where_, key, element.dump());
      result.push_back(element.get<double>());
    }
    return result;
  }
  double number(const char* key) const {
    const json& value = at(key);
    user_check(value.is_number(), "{}: '{}' is {}; expected a number", where_, key, value.dump());
    return value.get<double>();
  }

 private:
  const json& value_;
  std::string where_;
};

template <typename Read>
void for_each_entry(const json& file, const char* list, const std::string& name, Read read) {
  user_check(file.contains(list) && file[list].is_array(), "{}: has no list '{}'; is it a COCO annotation file?", name,
             list);
  for (size_t i = 0; i < file[list].size(); ++i) {
    read(Entry(file[list][i], fmt::format("{}: {}[{}]", name, list, i)));
  }
}

/// Sorts by id and returns the index of every id.
template <typename Item>
std::unordered_map<int64_t, size_t> sort_by_id(std::vector<Item>& items, const std::string& name, const char* what) {
  std::stable_sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.id < b.id; });
  std::unordered_map<int64_t, size_t> index;
  for (size_t i = 0; i < items.size(); ++i) {
    user_check(index.emplace(items[i].id, i).second, "{}: two {} have the id {}", name, what, items[i].id);
  }
  return index;
}

size_t look_up(const std::unordered_map<int64_t, size_t>& index, const Entry& entry, const char* key) {
  const auto found = index.find(entry.integer(key));
  user_check(found != index.end(), "{}: '{}' is {}, which does not exist", entry.where(), key, entry.integer(key));
  return found->second;
}

CocoCategory read_category(const Entry& entry) {
  CocoCategory category{entry.integer("id"), entry.text("name")};
  if (!entry.has("keypoints")) return category;
  const json& names = entry.at("keypoints");
  user_check(names.is_array(), "{}: 'keypoints' is no list of names", entry.where());
  for (const json& name : names) {
    user_check(name.is_string(), "{}: 'keypoints' holds {}; expected names", entry.where(), name.dump());
    category.keypoints.push_back(name.get<std::string>());
  }
  return category;
}

CocoAnnotation read_annotation(const Entry& entry) {
  CocoAnnotation annotation;
  const std::vector<double> box = entry.numbers("bbox");
  user_check(box.size() == 4 && box[2] >= 0 && box[3] >= 0,
             "{}: 'bbox' is {}; expected left, top, width and height in pixels", entry.where(),
             entry.at("bbox").dump());
  std::copy(box.begin(), box.end(), annotation.box.begin());
  annotation.area = entry.has("area") ? entry.number("area") : box[2] * box[3];
  annotation.crowd = entry.has("iscrowd") && entry.integer("iscrowd") != 0;
  return annotation;
}

}  // namespace

size_t CocoAnnotation::labelled_keypoints() const {
  size_t count = 0;
  for (size_t i = 2; i < keypoints.size(); i += 3) count += keypoints[i] > 0 ? 1 : 0;
  return count;
}

std::vector<std::string> CocoDataset::keypoint_names() const {
  for (const CocoCategory& category : categories) {
    if (!category.keypoints.empty()) return category.keypoints;
  }
  return {};
}

CocoDataset read_coco(const std::filesystem::path& annotations, const std::filesystem::path& image_folder) {
  const std::string name = annotations.string();
  const std::string text = read_file(annotations);
  json file;
  try {
    file = json::parse(text);
  } catch (const json::parse_error& error) {
    user_error("{}: not valid JSON ({})", name, error.what());
  }
  user_check(file.is_object(), "{}: expected a JSON object, found {}", name, file.type_name());
  CocoDataset data;
  for_each_entry(file, "images", name, [&](const Entry& entry) {
    data.images.push_back({entry.integer("id"), image_folder / entry.text("file_name"), entry.positive("width"),
                           entry.positive("height")});
  });
  for_each_entry(file, "categories", name,
                 [&](const Entry& entry) { data.categories.push_back(read_category(entry)); });
  const auto images = sort_by_id(data.images, name, "images");
  const auto categories = sort_by_id(data.categories, name, "categories");
  const size_t keypoints = data.keypoint_names().size();
  for_each_entry(file, "annotations", name, [&](const Entry& entry) {
    CocoAnnotation annotation = read_annotation(entry);
    annotation.image = look_up(images, entry, "image_id");
    annotation.category = look_up(categories, entry, "category_id");
    if (keypoints > 0 && entry.has("keypoints")) {
      annotation.keypoints = entry.numbers("keypoints");
      user_check(annotation.keypoints.size() == 3 * keypoints,
                 "{}: 'keypoints' holds {} numbers; expected x, y and visibility of {} keypoints", entry.where(),
                 annotation.keypoints.size(), keypoints);
    }
    data.annotations.push_back(std::move(annotation));
  });
  return data;
}

void write_coco(const std::filesystem::path& annotations, const CocoDataset& data) {
  nlohmann::ordered_json file;
  file["images"] = nlohmann::ordered_json::array();
  for (const CocoImage& image : data.images) {
    file["images"].push_back({{"id", image.id},
                              {"file_name", image.file.filename().string()},
                              {"width", image.width},
                              {"height", image.height}});
  }
  file["categories"] = nlohmann::ordered_json::array();
  for (const CocoCategory& category : data.categories) {
    nlohmann::ordered_json entry{{"id", category.id}, {"name", category.name}};
    if (!category.keypoints.empty()) entry["keypoints"] = category.keypoints;
    file["categories"].push_back(std::move(entry));
  }
  file["annotations"] = nlohmann::ordered_json::array();
  for (const CocoAnnotation& annotation : data.annotations) {
    nlohmann::ordered_json entry{{"id", file["annotations"].size() + 1},
                                 {"image_id", data.images.at(annotation.image).id},
                                 {"category_id", data.categories.at(annotation.category).id},
                                 {"bbox", annotation.box},
                                 {"area", annotation.area},
                                 {"iscrowd", annotation.crowd ? 1 : 0}};
    if (!annotation.keypoints.empty()) {
      entry["keypoints"] = annotation.keypoints;
      entry["num_keypoints"] = annotation.labelled_keypoints();
    }
    file["annotations"].push_back(std::move(entry));
  }
  write_file(annotations, file.dump() + "\n");
}

}  // namespace espq::detection
