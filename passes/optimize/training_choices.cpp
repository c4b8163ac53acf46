#include "passes/optimize/training_choices.h"

namespace espq {

const std::vector<std::pair<BlockCuts, std::string_view>> EnumNames<BlockCuts>::values = {{BlockCuts::Narrow, "narrow"},
                                                                                          {BlockCuts::Depth, "depth"}};
const std::vector<std::pair<RateSchedule, std::string_view>> EnumNames<RateSchedule>::values = {
    {RateSchedule::Constant, "constant"}, {RateSchedule::Cosine, "cosine"}};
const std::vector<std::pair<RateUnit, std::string_view>> EnumNames<RateUnit>::values = {
    {RateUnit::Grid, "grid"}, {RateUnit::Absolute, "absolute"}};
const std::vector<std::pair<SampleOrder, std::string_view>> EnumNames<SampleOrder>::values = {
    {SampleOrder::Drawn, "drawn"}, {SampleOrder::InOrder, "in_order"}};
const std::vector<std::pair<Judge, std::string_view>> EnumNames<Judge>::values = {{Judge::HeldOut, "held_out"},
                                                                                  {Judge::Training, "training"}};

}  // namespace espq
