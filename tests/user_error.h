#pragma once
#include <gtest/gtest.h>

#include <string>

#include "core/support/error.h"

namespace espq::test {

/// The message of the UserError that `function` throws; fails the test when it throws none. Other exceptions pass.
template <typename Function>
std::string user_error_of(Function&& function) {
  try {
    function();
  } catch (const UserError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no UserError was thrown";
  return {};
}

}  // namespace espq::test
