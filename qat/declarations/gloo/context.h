#pragma once
// LibTorch's wheel contains gloo but not its headers, which c10d/ProcessGroupGloo.hpp includes. Only the names that
// this header mentions are declared here; nothing of gloo is defined, and none of its objects is made or looked into:
// they stay behind the pointers that LibTorch hands around. Used only where no real headers are found.
#include <chrono>
#include <string>
#include <vector>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

namespace transport {
class Device;
class UnboundBuffer;
}  // namespace transport

namespace rendezvous {

/// The destructor, which is not defined here, keeps compilers from emitting a table of virtual functions.
class Store {
 public:
  virtual ~Store();
  virtual void set(const std::string& key, const std::vector<char>& value) = 0;
  virtual std::vector<char> get(const std::string& key) = 0;
  virtual void wait(const std::vector<std::string>& keys) = 0;
  virtual void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) = 0;
};

}  // namespace rendezvous
}  // namespace gloo
