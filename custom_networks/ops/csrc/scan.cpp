// The library's C interface, called from Python by ctypes. Every function takes structures of 8-byte fields and
// returns 0, or 1 when memory ran out. `low` selects bfloat16 for the tensors declared as void.

#include "causal_conv.h"
#include "selective_scan_backward.h"
#include "ssd_backward.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

using namespace scan;

// Calls f with a value of the type of the input and output tensors.
template <class F>
static int with_type([[maybe_unused]] int low, F&& f) {
#if !defined(SCAN_DOUBLE)
  if (low) return !f(bf16{});
#endif
  return !f(real{});
}

EXPORT int64_t scan_lanes() { return kLanes; }
EXPORT int64_t scan_chunk() { return kChunk; }

EXPORT int64_t selective_scan_bytes() { return sizeof(SelectiveScan); }
EXPORT int64_t selective_scan_gradients_bytes() { return sizeof(SelectiveScanGradients); }

EXPORT int64_t causal_conv_bytes() { return sizeof(CausalConv); }
EXPORT int64_t causal_conv_gradients_bytes() { return sizeof(CausalConvGradients); }
EXPORT int64_t ssd_bytes() { return sizeof(Ssd); }
EXPORT int64_t ssd_gradients_bytes() { return sizeof(SsdGradients); }

EXPORT int selective_scan_forward(const SelectiveScan* s, int low) {
  return with_type(low, [&](auto type) { return selective_scan<decltype(type)>(*s); });
}
EXPORT int selective_scan_backward(const SelectiveScan* s, const SelectiveScanGradients* gradients, int low) {
  return with_type(low, [&](auto type) { return selective_scan_backward<decltype(type)>(*s, *gradients); });
}

EXPORT int causal_conv_forward(const CausalConv* c, int low) {
  return with_type(low, [&](auto type) { return causal_conv<decltype(type)>(*c); });
}
EXPORT int causal_conv_backward(const CausalConv* c, const CausalConvGradients* gradients, int low) {
  return with_type(low, [&](auto type) { return causal_conv_backward<decltype(type)>(*c, *gradients); });
}

EXPORT int ssd_forward(const Ssd* s, int low) {
  return with_type(low, [&](auto type) { return ssd<decltype(type)>(*s); });
}
EXPORT int ssd_backward(const Ssd* s, const SsdGradients* gradients, int low) {
  return with_type(low, [&](auto type) { return ssd_backward<decltype(type)>(*s, *gradients); });
}
