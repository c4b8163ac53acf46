#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

Table make_table() {
  Table table;
  for (const auto add : {add_convolutions, add_products, add_attention, add_activations, add_arithmetic,
                         add_comparisons, add_shapes, add_joins, add_indexing, add_reductions, add_pooling,
                         add_resizing, add_normalizations, add_recurrent, add_linear_maps})
    add(table);
  return table;
}

}  // namespace

const TableEntry* find_mapping(std::string_view name) {
  static const Table table = make_table();
  auto found = table.find(name);
  // relu_ is relu; __and__ is a name of its own.
  if (found == table.end() && name.size() > 1 && name.back() == '_' && name[name.size() - 2] != '_')
    found = table.find(name.substr(0, name.size() - 1));
  return found == table.end() ? nullptr : &found->second;
}

double tolerance(Family family) {
  switch (family) {
    case Family::Movement:
      return 0;
    case Family::Arithmetic:
      return 1e-6;  // a few roundings of float32 (2^-24 each)
    case Family::Transcendental:
      return 1e-5;  // exp, log and the like are computed by other formulas
    case Family::Product:
      return 2e-5;  // sums of up to some thousand products in another order
    case Family::Recurrent:
      return 1e-4;  // several products one after the other
  }
  return 0;
}

}  // namespace espq::torch_frontend
