// Following a job by the user's events.

#pragma once

#include <cstdint>
#include <string>

#include "connection.h"

/// Waits for a job's one terminal event and returns its report. After a cut it subscribes again after the last number it
/// saw, so that no event is missed and none is seen twice.
///
/// Throws Failure when the job ended in OnError.
videoprocess::v1::ProcessReport Follow(Connection& connection, int user_id, const std::string& job_id,
                                       int64_t after_sequence);
