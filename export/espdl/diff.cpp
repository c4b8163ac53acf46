#include "export/espdl/diff.h"

#include <ATen/ATen.h>

#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "core/support/error.h"
#include "export/espdl/convert.h"

namespace espq {
namespace {

/// Who writes a tensor.
struct Producer {
  const EspdlNode* node = nullptr;
  size_t slot = 0;
};

/// One file with its tensors by name.
struct Side {
  const EspdlModel& model;
  bool vector_unit;
  std::unordered_map<std::string, Producer> producers;
  std::unordered_map<std::string, const EspdlTensor*> constants;
  std::unordered_map<std::string, const EspdlValueInfo*> values;

  explicit Side(const EspdlModel& source) : model(source), vector_unit(has_vector_layout(source)) {
    for (const EspdlNode& node : model.nodes)
      for (size_t slot = 0; slot < node.outputs.size(); ++slot)
        if (!node.outputs[slot].empty()) producers.try_emplace(node.outputs[slot], Producer{&node, slot});
    for (const EspdlTensor& tensor : model.initializers) constants.try_emplace(tensor.name, &tensor);
    for (const EspdlValueInfo& value : model.value_infos) values.try_emplace(value.name, &value);
  }
  Producer producer(const std::string& name) const { return find(producers, name); }
  const EspdlTensor* constant(const std::string& name) const { return find(constants, name); }
  const EspdlValueInfo* value(const std::string& name) const { return find(values, name); }

  template <typename Map>
  static typename Map::mapped_type find(const Map& map, const std::string& name) {
    const auto found = map.find(name);
    return found == map.end() ? typename Map::mapped_type{} : found->second;
  }
};

std::string title(const EspdlNode& node) { return fmt::format("{} '{}'", node.op_type, node.name); }

std::string type_text(const EspdlValueInfo& value) {
  std::vector<std::string> dims;
  if (value.shape)
    for (const auto& dim : *value.shape)
      dims.push_back(dim.kind == EspdlDimension::Kind::Value ? std::to_string(dim.value) : "?");
  return fmt::format("{}[{}]@{}", element_name(value.type), value.shape ? fmt::format("{}", fmt::join(dims, ",")) : "?",
                     fmt::join(value.exponents, ","));
}

std::string type_text(const EspdlTensor& tensor) {
  const auto& exponents = tensor.exponents;
  const bool uniform = std::all_of(exponents.begin(), exponents.end(), [&](int64_t e) { return e == exponents[0]; });
  const std::string grid = exponents.size() > 1 && uniform ? fmt::format("{} x {}", exponents.size(), exponents[0])
                                                           : fmt::format("{}", fmt::join(exponents, ","));
  return fmt::format("{}[{}]@{}", element_name(tensor.type), fmt::join(tensor.dims, ","), grid);
}

std::string attribute_text(const EspdlAttribute& attribute) {
  return std::visit(
      [](const auto& value) -> std::string {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, EspdlTensor>)
          return "tensor " + type_text(value);
        else if constexpr (std::is_same_v<T, std::string>)
          return "'" + value + "'";
        else if constexpr (std::is_arithmetic_v<T>)
          return fmt::format("{}", value);
        else
          return fmt::format("[{}]", fmt::join(value, ", "));
      },
      attribute.value);
}

/// The older generation's names lack the parentheses: N16HWC16 is (N/16)HWC16.
std::string layout_of(const EspdlTensor& tensor) {
  std::string text;
  for (const char c : tensor.doc_string.value_or("layout ==> UNK"))
    if (c != '(' && c != ')' && c != '/') text += c;
  return text;
}

class Comparison {
 public:
  Comparison(const EspdlModel& first, const EspdlModel& second, const DiffOptions& options)
      : first_(first), second_(second), options_(options) {}
  std::vector<EspdlDifference> run();

 private:
  Side first_, second_;
  DiffOptions options_;
  std::vector<EspdlDifference> differences_;
  std::unordered_map<std::string, std::string> partner_;  ///< tensor of the first file -> of the second
  std::unordered_map<const EspdlNode*, const EspdlNode*> node_partner_;
  std::set<const EspdlNode*> seen_second_;
  std::deque<std::pair<std::string, std::string>> waiting_;

  void report(std::string kind, std::string where, std::string what) {
    differences_.push_back({std::move(kind), std::move(where), std::move(what)});
  }
  std::vector<std::string> common_names(const char* what, const std::vector<EspdlValueInfo>& a,
                                        const std::vector<EspdlValueInfo>& b);
  void pair_tensors(const std::string& a, const std::string& b, const std::string& where);
  void visit(const std::string& a, const std::string& b);
  void pair_producers(const Producer& a, const Producer& b, const std::string& name_a, const std::string& name_b);
  bool skip_extra(const Producer& a, const Producer& b, const std::string& name_a, const std::string& name_b);
  void compare_nodes(const EspdlNode& a, const EspdlNode& b);
  void compare_attributes(const EspdlNode& a, const EspdlNode& b);
  void compare_tables(const EspdlNode& a, const EspdlNode& b);
  void compare_operand(const EspdlNode& a, const EspdlNode& b, size_t slot);
  void compare_values(const std::string& a, const std::string& b, const std::string& where);
  void compare_numbers(const char* kind, const std::string& where, const EspdlTensor& a, const EspdlTensor& b,
                       const at::Tensor& value_a, const at::Tensor& value_b);
  void compare_tests(const char* what, const std::vector<EspdlTensor>& a, const std::vector<EspdlTensor>& b);
  void report_unreached();
};

std::vector<std::string> Comparison::common_names(const char* what, const std::vector<EspdlValueInfo>& a,
                                                  const std::vector<EspdlValueInfo>& b) {
  std::set<std::string> names_a, names_b;
  for (const auto& value : a) names_a.insert(value.name);
  for (const auto& value : b) names_b.insert(value.name);
  std::vector<std::string> common;
  for (const auto& name : names_a) {
    if (names_b.contains(name))
      common.push_back(name);
    else
      report("interface", fmt::format("graph {} '{}'", what, name), "only in the first file");
  }
  for (const auto& name : names_b)
    if (!names_a.contains(name))
      report("interface", fmt::format("graph {} '{}'", what, name), "only in the second file");
  return common;
}

/// Notes that two tensors stand for each other; each may have one partner only.
void Comparison::pair_tensors(const std::string& a, const std::string& b, const std::string& where) {
  const auto [known, fresh] = partner_.emplace(a, b);
  if (fresh)
    waiting_.emplace_back(a, b);
  else if (known->second != b)
    report(
        "operator", where,
        fmt::format("reads '{}' in both places of the first file, '{}' and '{}' in the second", a, known->second, b));
}

void Comparison::visit(const std::string& a, const std::string& b) {
  const Producer producer_a = first_.producer(a), producer_b = second_.producer(b);
  if (producer_a.node && producer_b.node) {
    pair_producers(producer_a, producer_b, a, b);
    return;
  }
  if (producer_a.node || producer_b.node) {
    if (skip_extra(producer_a, producer_b, a, b)) return;
    const auto describe = [](const Producer& producer, const Side& side, const std::string& name) {
      if (producer.node) return "computed by " + title(*producer.node);
      return side.constant(name) ? "constant '" + name + "'" : "graph input '" + name + "'";
    };
    report("operator", fmt::format("tensor '{}'", a),
           fmt::format("{}; {}", describe(producer_a, first_, a), describe(producer_b, second_, b)));
    return;
  }
  compare_values(a, b, fmt::format("graph input '{}'", a));
  if (a != b)
    report("operator", fmt::format("graph input '{}'", a), fmt::format("graph input '{}' is read instead", b));
}

void Comparison::pair_producers(const Producer& a, const Producer& b, const std::string& name_a,
                                const std::string& name_b) {
  if (a.node->op_type != b.node->op_type) {
    if (skip_extra(a, b, name_a, name_b)) return;
    report("operator", title(*a.node), fmt::format("{} in the second file", title(*b.node)));
    return;
  }
  if (a.slot != b.slot)
    report("operator", title(*a.node),
           fmt::format("'{}' is output {}, in the second file output {}", name_a, a.slot, b.slot));
  compare_values(name_a, name_b, title(*a.node));
  const auto [known, fresh] = node_partner_.emplace(a.node, b.node);
  if (fresh) {
    if (!seen_second_.insert(b.node).second)
      report("operator", title(*a.node), fmt::format("{} of the second file does this twice", title(*b.node)));
    compare_nodes(*a.node, *b.node);
  } else if (known->second != b.node) {
    report("operator", title(*a.node),
           fmt::format("one node in the first file, {} and {} in the second", title(*known->second), title(*b.node)));
  }
}

/// When one file has a one-in one-out node more at this place, says so and goes on behind it.
bool Comparison::skip_extra(const Producer& a, const Producer& b, const std::string& name_a,
                            const std::string& name_b) {
  const auto leads_to = [](const Side& side, const Producer& extra, const Producer& other, const std::string& name) {
    if (!extra.node || extra.node->outputs.size() != 1 || extra.node->inputs.empty()) return false;
    const Producer behind = side.producer(extra.node->inputs[0]);
    if (other.node) return behind.node && behind.node->op_type == other.node->op_type;
    return !behind.node && extra.node->inputs[0] == name;  // a graph input
  };
  if (leads_to(first_, a, b, name_b)) {
    report("operator", title(*a.node), "only in the first file");
    node_partner_.emplace(a.node, nullptr);
    visit(a.node->inputs[0], name_b);
    return true;
  }
  if (leads_to(second_, b, a, name_a)) {
    report("operator", fmt::format("tensor '{}'", name_a), fmt::format("the second file has {} here", title(*b.node)));
    seen_second_.insert(b.node);
    visit(name_a, b.node->inputs[0]);
    return true;
  }
  return false;
}

void Comparison::compare_nodes(const EspdlNode& a, const EspdlNode& b) {
  compare_attributes(a, b);
  compare_tables(a, b);
  const size_t operands = std::max(a.inputs.size(), b.inputs.size());
  for (size_t slot = 0; slot < operands; ++slot) compare_operand(a, b, slot);
  if (a.outputs.size() != b.outputs.size())
    report("operator", title(a), fmt::format("{} outputs, {} in the second file", a.outputs.size(), b.outputs.size()));
}

void Comparison::compare_attributes(const EspdlNode& a, const EspdlNode& b) {
  std::set<std::string> keys;
  for (const EspdlNode* node : {&a, &b})
    for (const EspdlAttribute& attribute : node->attributes) keys.insert(attribute.name);
  keys.erase("lut");  // a name; the table itself is compared
  for (const std::string& key : keys) {
    const EspdlAttribute *left = a.find_attribute(key), *right = b.find_attribute(key);
    if (left && right && left->value == right->value) continue;
    report("attribute", title(a),
           fmt::format("{}: {}, {}", key, left ? attribute_text(*left) : "missing",
                       right ? attribute_text(*right) : "missing"));
  }
}

void Comparison::compare_tables(const EspdlNode& a, const EspdlNode& b) {
  const auto table = [](const Side& side, const EspdlNode& node) -> const EspdlTensor* {
    const EspdlAttribute* attribute = node.find_attribute("lut");
    const std::string* name = attribute ? std::get_if<std::string>(&attribute->value) : nullptr;
    return name ? side.constant(*name) : nullptr;
  };
  const EspdlTensor *left = table(first_, a), *right = table(second_, b);
  if (left && right)
    compare_numbers("table", title(a), *left, *right, to_tensor(*left), to_tensor(*right));
  else if (left || right)
    report("table", title(a),
           left ? "only the first file has a look-up table" : "only the second file has a look-up table");
}

void Comparison::compare_operand(const EspdlNode& a, const EspdlNode& b, size_t slot) {
  const std::string name_a = slot < a.inputs.size() ? a.inputs[slot] : "";
  const std::string name_b = slot < b.inputs.size() ? b.inputs[slot] : "";
  if (name_a.empty() && name_b.empty()) return;
  const std::string where = fmt::format("{}, operand {}", title(a), slot);
  if (name_a.empty() || name_b.empty()) {
    report("operator", where, name_a.empty() ? "omitted in the first file only" : "omitted in the second file only");
    return;
  }
  const EspdlTensor *left = first_.constant(name_a), *right = second_.constant(name_b);
  if (!left && !right) {
    pair_tensors(name_a, name_b, where);
  } else if (left && right) {
    compare_numbers("parameter", fmt::format("{} '{}'", where, name_a), *left, *right,
                    to_tensor(*left, &a, slot, first_.vector_unit), to_tensor(*right, &b, slot, second_.vector_unit));
    // Packing that the names or the bytes show although the integers agree.
    if (layout_of(*left) != layout_of(*right))
      report("parameter", fmt::format("{} '{}'", where, name_a),
             fmt::format("{}, {}", left->doc_string.value_or("no layout"), right->doc_string.value_or("no layout")));
  } else {
    report("operator", where, left ? "constant in the first file only" : "constant in the second file only");
  }
}

void Comparison::compare_values(const std::string& a, const std::string& b, const std::string& where) {
  const EspdlValueInfo *left = first_.value(a), *right = second_.value(b);
  if (!left || !right) {
    if (left || right) report("value", where, fmt::format("'{}': a value info is missing in one file", a));
    return;
  }
  if (left->type == right->type && left->shape == right->shape && left->exponents == right->exponents) return;
  report("value", where, fmt::format("'{}' is {}, {}", a, type_text(*left), type_text(*right)));
}

void Comparison::compare_numbers(const char* kind, const std::string& where, const EspdlTensor& a, const EspdlTensor& b,
                                 const at::Tensor& value_a, const at::Tensor& value_b) {
  if (a.type != b.type || a.dims != b.dims || a.exponents != b.exponents)
    report(kind, where, fmt::format("is {}, {}", type_text(a), type_text(b)));
  if (value_a.sizes() != value_b.sizes()) return;  // said above: the dims differ
  const at::Tensor left = value_a.to(at::kDouble).reshape({-1}), right = value_b.to(at::kDouble).reshape({-1});
  const at::Tensor unequal = left.ne(right).logical_and(left.isnan().logical_and(right.isnan()).logical_not());
  const int64_t count = unequal.sum().item<int64_t>();
  if (count == 0) return;
  const int64_t at = unequal.to(at::kByte).argmax().item<int64_t>();
  std::vector<int64_t> position;
  int64_t rest = at;
  for (auto size = value_a.sizes().rbegin(); size != value_a.sizes().rend(); rest /= *size++)
    position.insert(position.begin(), rest % *size);
  EspdlDifference difference{kind, where, "", left.numel(), count, (left - right).abs().max().item<double>()};
  difference.what =
      fmt::format("{} of {} numbers differ, by up to {}; at [{}]: {}, {}", count, left.numel(), difference.largest,
                  fmt::join(position, ","), left[at].item<double>(), right[at].item<double>());
  differences_.push_back(std::move(difference));
}

void Comparison::compare_tests(const char* what, const std::vector<EspdlTensor>& a, const std::vector<EspdlTensor>& b) {
  std::map<std::string, const EspdlTensor*> others;
  for (const EspdlTensor& tensor : b) others[tensor.name] = &tensor;
  for (const EspdlTensor& tensor : a) {
    const std::string where = fmt::format("test {} '{}'", what, tensor.name);
    const auto partner = partner_.find(tensor.name);
    const auto other = others.find(partner == partner_.end() ? tensor.name : partner->second);
    if (other == others.end()) {
      report("test value", where, "only in the first file");
      continue;
    }
    compare_numbers("test value", where, tensor, *other->second, to_tensor(tensor), to_tensor(*other->second));
    others.erase(other);
  }
  for (const auto& [name, tensor] : others)
    report("test value", fmt::format("test {} '{}'", what, name), "only in the second file");
}

/// Nodes that no output depends on, or that lie behind a place where the files part.
void Comparison::report_unreached() {
  std::vector<std::string> left, right;
  for (const EspdlNode& node : first_.model.nodes)
    if (!node_partner_.contains(&node)) left.push_back(title(node));
  for (const EspdlNode& node : second_.model.nodes)
    if (!seen_second_.contains(&node)) right.push_back(title(node));
  constexpr size_t kShown = 5;
  const auto list = [&](const std::vector<std::string>& nodes, const char* file) {
    if (nodes.empty()) return;
    const auto shown = std::min(nodes.size(), kShown);
    report("operator", fmt::format("{} nodes of the {} file", nodes.size(), file),
           fmt::format("have no counterpart: {}{}", fmt::join(nodes.begin(), nodes.begin() + shown, ", "),
                       nodes.size() > shown ? ", ..." : ""));
  };
  list(left, "first");
  list(right, "second");
}

std::vector<EspdlDifference> Comparison::run() {
  common_names("input", first_.model.inputs, second_.model.inputs);
  for (const std::string& name : common_names("output", first_.model.outputs, second_.model.outputs)) {
    const EspdlTensor *left = first_.constant(name), *right = second_.constant(name);
    if (left && right)
      compare_numbers("parameter", fmt::format("graph output '{}'", name), *left, *right, to_tensor(*left),
                      to_tensor(*right));
    else if (left || right)
      report("interface", fmt::format("graph output '{}'", name), "constant in one file only");
    else
      pair_tensors(name, name, fmt::format("graph output '{}'", name));
  }
  while (!waiting_.empty()) {
    const auto [a, b] = waiting_.front();
    waiting_.pop_front();
    visit(a, b);
  }
  report_unreached();
  if (options_.test_values) {
    compare_tests("input", first_.model.test_inputs, second_.model.test_inputs);
    compare_tests("output", first_.model.test_outputs, second_.model.test_outputs);
  }
  return std::move(differences_);
}

}  // namespace

std::vector<EspdlDifference> diff(const EspdlModel& first, const EspdlModel& second, const DiffOptions& options) {
  return Comparison(first, second, options).run();
}

std::string to_text(const std::vector<EspdlDifference>& differences) {
  std::string text;
  for (const auto& difference : differences)
    text += fmt::format("{}: {}: {}\n", difference.kind, difference.where, difference.what);
  return text;
}

nlohmann::ordered_json to_json(const std::vector<EspdlDifference>& differences) {
  auto list = nlohmann::ordered_json::array();
  for (const auto& difference : differences) {
    nlohmann::ordered_json item{{"kind", difference.kind}, {"where", difference.where}, {"what", difference.what}};
    if (difference.elements)
      item.update(
          {{"elements", difference.elements}, {"differing", difference.differing}, {"largest", difference.largest}});
    list.push_back(std::move(item));
  }
  using Json = nlohmann::ordered_json;
  const Json json{{"equal", differences.empty()}, {"differences", std::move(list)}};
  // Names in a file need not be valid UTF-8.
  return Json::parse(json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace espq
