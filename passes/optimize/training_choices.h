#pragma once
#include <string_view>
#include <utility>
#include <vector>

#include "core/support/enum_names.h"

// Words of the options of passes that train.
namespace espq {

/// How the network is cut for training: Narrow, where few tensors pass (blocks.h), every operation trained once; Depth,
/// as esp-ppq 1.3.12 does it (depth_blocks.h).
enum class BlockCuts { Narrow, Depth };
/// Learning rate over a run: Constant, or half a wave of a cosine that ends at 0.
enum class RateSchedule { Constant, Cosine };
/// What a learning rate counts in. Grid: steps of the parameter's own grid (of the result's for a bias), so that one
/// rate serves layers of every size. Absolute: the parameter's own units.
enum class RateUnit { Grid, Absolute };
/// Samples of a batch: Drawn anew every epoch, or InOrder round and round.
enum class SampleOrder { Drawn, InOrder };
/// Whose error decides whether a block stays trained.
enum class Judge { HeldOut, Training };

template <>
struct EnumNames<BlockCuts> {
  static const std::vector<std::pair<BlockCuts, std::string_view>> values;
};
template <>
struct EnumNames<RateSchedule> {
  static const std::vector<std::pair<RateSchedule, std::string_view>> values;
};
template <>
struct EnumNames<RateUnit> {
  static const std::vector<std::pair<RateUnit, std::string_view>> values;
};
template <>
struct EnumNames<SampleOrder> {
  static const std::vector<std::pair<SampleOrder, std::string_view>> values;
};
template <>
struct EnumNames<Judge> {
  static const std::vector<std::pair<Judge, std::string_view>> values;
};

}  // namespace espq
