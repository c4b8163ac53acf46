#include "torch_frontend/archive.h"

#include <deque>
#include <functional>

#include "core/data/zip.h"

namespace espq::torch_frontend {
namespace {

using nlohmann::json;

/// Entries by their name inside the archive's folder. Those that are stored as they are stay where they are.
class Entries {
 public:
  explicit Entries(std::string_view bytes) {
    read_zip(bytes, "damaged archive", [&](const std::string& name, std::string_view content) {
      // Newer layouts put everything into one folder that is called like the file.
      const size_t slash = name.find('/');
      const bool flat = name.rfind("serialized_", 0) == 0 || slash == std::string::npos;
      const std::less_equal<const char*> in_order;
      const bool stored =
          in_order(bytes.data(), content.data()) && in_order(content.data(), bytes.data() + bytes.size());
      entries_.insert_or_assign(flat ? name : name.substr(slash + 1),
                                stored ? content : std::string_view(inflated_.emplace_back(content)));
    });
  }
  const std::string_view* find(const std::string& name) const {
    const auto found = entries_.find(name);
    return found == entries_.end() ? nullptr : &found->second;
  }
  std::string_view get(const std::string& name) const {
    const std::string_view* entry = find(name);
    user_check(entry != nullptr, "its part '{}' is missing", name);
    return *entry;
  }
  std::vector<std::string> names(const std::string& start, const std::string& end) const {
    std::vector<std::string> result;
    for (const auto& [name, unused] : entries_)
      if (name.rfind(start, 0) == 0 && name.size() >= end.size() && name.substr(name.size() - end.size()) == end)
        result.push_back(name);
    return result;
  }

 private:
  std::deque<std::string> inflated_;
  std::map<std::string, std::string_view> entries_;
};

json parse(std::string_view text, const std::string& entry) {
  try {
    return json::parse(text);
  } catch (const json::exception& error) {
    user_error("its part '{}' is no valid JSON: {}", entry, error.what());
  }
}

/// A tensor from raw little-endian memory and its description.
at::Tensor raw_tensor(std::string_view content, const json& meta, const std::string& name) {
  const at::ScalarType dtype = archive_dtype(meta.at("dtype").get<int64_t>());
  const auto integers = [](const json& list) {
    std::vector<int64_t> result;
    for (const json& entry : list) result.push_back(entry.at("as_int").get<int64_t>());
    return result;
  };
  const std::vector<int64_t> sizes = integers(meta.at("sizes")), strides = integers(meta.at("strides"));
  const int64_t offset = meta.at("storage_offset").at("as_int").get<int64_t>();
  const int64_t available = static_cast<int64_t>(content.size() / at::elementSize(dtype));
  user_check(sizes.size() == strides.size() && offset >= 0, "tensor '{}': its description makes no sense", name);
  int64_t last = offset;
  bool empty = false;
  for (size_t i = 0; i < sizes.size(); ++i) {
    user_check(sizes[i] >= 0 && strides[i] >= 0 && sizes[i] <= available &&
                   strides[i] <= std::max<int64_t>(available, 1) * std::max<int64_t>(available, 1),
               "tensor '{}': its data are {} elements, its shape needs more", name, available);
    empty = empty || sizes[i] == 0;
    last += std::max<int64_t>(sizes[i] - 1, 0) * strides[i];
    user_check(last < std::max<int64_t>(available, 1) || empty,
               "tensor '{}': its data are {} elements, its shape needs more", name, available);
  }
  if (empty) return at::empty(sizes, at::TensorOptions().dtype(dtype));
  user_check(last < available, "tensor '{}': its data are {} elements, its shape needs more", name, available);
  const at::Tensor memory = at::empty({available}, at::TensorOptions().dtype(dtype));
  std::memcpy(memory.mutable_data_ptr(), content.data(), static_cast<size_t>(available) * at::elementSize(dtype));
  return memory.as_strided(sizes, strides, offset).contiguous();
}

at::Tensor float32(const at::Tensor& value) { return value.to(graph_dtype(value.scalar_type())); }

/// Tensors that a config file lists; those of other storage are pickles of one tensor each.
void read_config(const Entries& entries, const std::string& config, const std::string& folder,
                 std::map<std::string, at::Tensor>& tensors) {
  const json content = parse(entries.get(config), config);
  for (const auto& [name, entry] : (content.contains("config") ? content.at("config") : content).items()) {
    if (!entry.contains("tensor_meta") || entry.at("tensor_meta").is_null()) continue;  // an object of a user's class
    const std::string_view data = entries.get(folder + entry.at("path_name").get<std::string>());
    if (entry.value("use_pickle", false)) {
      const auto loaded = load_pickle(data);
      user_check(loaded.size() == 1, "tensor '{}' cannot be read", name);
      tensors[name] = float32(loaded[0].second);
    } else {
      tensors[name] = float32(raw_tensor(data, entry.at("tensor_meta"), name));
    }
  }
}

void read_pickle(const Entries& entries, const std::string& name, std::map<std::string, at::Tensor>& tensors) {
  const std::string_view* data = entries.find(name);
  if (!data || data->empty()) return;
  for (auto& [key, tensor] : load_pickle(*data)) tensors[key] = float32(tensor);
}

Tensors read_sample(const std::string_view* data) {
  if (!data || data->empty()) return {};
  Tensors result;
  try {
    for (auto& [unused, tensor] : load_pickle(*data)) result.push_back(tensor);
  } catch (const UserError&) {
    return {};  // inputs of the user's own classes: shapes come from elsewhere
  }
  return result;
}

/// One file per part (torch 2.7 and before).
Archive read_flat(const Entries& entries) {
  const std::string name = "serialized_exported_program.json";
  Archive archive{parse(entries.get(name), name), {}, {}, {}};
  user_check(entries.find("serialized_state_dict.pt") != nullptr, "its part 'serialized_state_dict.pt' is missing");
  read_pickle(entries, "serialized_state_dict.pt", archive.weights);
  read_pickle(entries, "serialized_constants.pt", archive.constants);
  archive.sample = read_sample(entries.find("serialized_example_inputs.pt"));
  return archive;
}

/// One file per tensor, described by JSON (torch 2.8 and later).
Archive read_folders(const Entries& entries, const std::string& model) {
  const std::string program = "models/" + model + ".json", weights = "data/weights/", constants = "data/constants/";
  Archive archive{parse(entries.get(program), program), {}, {}, {}};
  bool found = false;
  for (const char* ending : {"_weights_config.json", "_model_param_config.json"}) {
    if (!entries.find(weights + model + ending)) continue;
    found = true;
    read_config(entries, weights + model + ending, weights, archive.weights);
  }
  if (!found) read_pickle(entries, weights + model + ".pt", archive.weights);
  if (entries.find(constants + model + "_constants_config.json"))
    read_config(entries, constants + model + "_constants_config.json", constants, archive.constants);
  else
    read_pickle(entries, constants + model + ".pt", archive.constants);
  archive.sample = read_sample(entries.find("data/sample_inputs/" + model + ".pt"));
  return archive;
}

}  // namespace

at::ScalarType archive_dtype(int64_t number) {
  static const std::map<int64_t, at::ScalarType> types = {
      {1, at::kByte}, {2, at::kChar},  {3, at::kShort},  {4, at::kInt},   {5, at::kLong},
      {6, at::kHalf}, {7, at::kFloat}, {8, at::kDouble}, {12, at::kBool}, {13, at::kBFloat16}};
  const auto found = types.find(number);
  user_check(found != types.end(), "element type {} is not supported (complex, quantized, 8-bit float)", number);
  return found->second;
}

Archive read_archive(std::string_view bytes) {
  const Entries entries(bytes);
  try {
    if (entries.find("serialized_exported_program.json")) return read_flat(entries);
    const auto models = entries.names("models/", ".json");
    user_check(models.size() == 1, "holds {} networks, espq takes one", models.size());
    const std::string start = "models/", end = ".json";
    return read_folders(entries, models[0].substr(start.size(), models[0].size() - start.size() - end.size()));
  } catch (const json::exception& error) {
    user_error("its tensor descriptions have another form than espq knows (torch 2.7 to 2.13): {}", error.what());
  }
}

}  // namespace espq::torch_frontend
