#pragma once
#include <cstdint>
#include <initializer_list>

namespace espq::detection {

/// Random numbers that are equal on every machine (SplitMix64), for images that are drawn or changed at random.
class Random {
 public:
  /// The numbers depend on all of `seeds`.
  explicit Random(std::initializer_list<uint64_t> seeds) {
    for (uint64_t seed : seeds) state_ = next() ^ seed;
  }
  uint64_t next() {
    uint64_t value = state_ += 0x9e3779b97f4a7c15ULL;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
    return value ^ (value >> 31);
  }
  /// In [low, high).
  double uniform(double low, double high) { return low + (high - low) * double(next() >> 11) * 0x1p-53; }
  /// 0 ... count - 1.
  int64_t index(int64_t count) { return static_cast<int64_t>(uniform(0, static_cast<double>(count))); }

 private:
  uint64_t state_ = 0;
};

}  // namespace espq::detection
