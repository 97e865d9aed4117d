#include "patience.h"

#include <algorithm>
#include <iostream>
#include <thread>

namespace {

using std::chrono::milliseconds;

constexpr std::chrono::seconds kPatience{60};
constexpr milliseconds kFirstPause{100};
constexpr milliseconds kLongestPause{5'000};

}  // namespace

void Patience::Wait(const Failure& failure) {
    if (pause_ == milliseconds::zero()) {
        failing_since_ = Clock::now();
        pause_ = kFirstPause;
    }
    if (!failure.may_pass() || Clock::now() - failing_since_ > kPatience) {
        throw failure;
    }
    std::cerr << "trying again: " << failure.reason() << ": " << failure.what() << std::endl;
    std::this_thread::sleep_for(std::max(pause_, failure.retry_delay()));
    pause_ = std::min(pause_ * 2, kLongestPause);
}

void Patience::Renew() { pause_ = milliseconds::zero(); }
