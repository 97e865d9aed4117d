// How long this program waits for a service that is away.

#pragma once

#include <chrono>

#include "failure.h"

/// The patience for one operation: pauses between its tries, until it is used up.
class Patience {
public:
    /// Waits before the next try. Throws `failure` when another try cannot help or there were enough.
    void Wait(const Failure& failure);

    /// There was progress: the next failure is the first one again.
    void Renew();

private:
    using Clock = std::chrono::steady_clock;

    Clock::time_point failing_since_;
    std::chrono::milliseconds pause_{0};
};
