// Vectors of channels: loads, stores and the few elementary functions the scans need.
//
// Written with the compiler's vector extension, so that one source serves AVX-512, AVX2 and anything else; only the
// exponential has an AVX-512 form of its own. A build with -DSCAN_DOUBLE computes in float64 with the C library's
// functions and exists to check the derivatives numerically.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace scan {

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define SCAN_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define SCAN_VECTOR_BYTES 32
#else
#define SCAN_VECTOR_BYTES 16
#endif

#if defined(SCAN_DOUBLE)
using real = double;
using bits = int64_t;
#else
using real = float;
using bits = int32_t;
#endif

constexpr int kLanes = SCAN_VECTOR_BYTES / sizeof(real);
typedef real vec __attribute__((vector_size(SCAN_VECTOR_BYTES)));
typedef bits bvec __attribute__((vector_size(SCAN_VECTOR_BYTES)));
typedef real unaligned_vec __attribute__((vector_size(SCAN_VECTOR_BYTES), aligned(sizeof(real)), may_alias));

struct bf16 {
  uint16_t value;
};

constexpr real kLog2E = 1.44269504088896340736;
constexpr real kLn2 = 0.69314718055994530942;

inline vec broadcast(real x) { return x - vec{}; }

inline real widen(real x) { return x; }

#if !defined(SCAN_DOUBLE)
inline real widen(bf16 x) {
  const uint32_t word = static_cast<uint32_t>(x.value) << 16;
  float out;
  std::memcpy(&out, &word, sizeof out);
  return out;
}

typedef uint16_t half_words __attribute__((vector_size(SCAN_VECTOR_BYTES / 2)));
typedef uint32_t words __attribute__((vector_size(SCAN_VECTOR_BYTES)));

inline vec load(const bf16* from) {
  half_words raw;
  std::memcpy(&raw, from, sizeof raw);
  return (vec)(__builtin_convertvector(raw, words) << 16);
}

// Rounds to nearest even, as PyTorch does; a NaN keeps its top bits, with the quiet bit set so that it stays a NaN.
inline void store(bf16* to, vec x) {
  const words raw = (words)x;
  const words rounded = (raw + 0x7fff + ((raw >> 16) & 1)) >> 16;
  const words kept = x == x ? rounded : ((raw >> 16) | 0x40);
  const half_words out = __builtin_convertvector(kept, half_words);
  std::memcpy(to, &out, sizeof out);
}
#endif

inline vec load(const real* from) { return *reinterpret_cast<const unaligned_vec*>(from); }
inline void store(real* to, vec x) { *reinterpret_cast<unaligned_vec*>(to) = x; }

// The first `count` lanes; the others read as zero and are not written.
template <class T>
inline vec load(const T* from, int count) {
  if (__builtin_expect(count == kLanes, 1)) return load(from);
  T row[kLanes] = {};
  std::memcpy(row, from, count * sizeof(T));
  return load(row);
}
template <class T>
inline void store(T* to, vec x, int count) {
  if (__builtin_expect(count == kLanes, 1)) return store(to, x);
  T row[kLanes];
  store(row, x);
  std::memcpy(to, row, count * sizeof(T));
}

inline real sum_lanes(vec x) {
  real row[kLanes];
  store(row, x);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) row[i] += row[i + width];
  return row[0];
}

// A register has blocks of 16 bytes; shuffles within them are cheap. Interleaves the first (or second) halves of the
// blocks of two vectors, or picks the even (or odd) blocks of both.
constexpr int kBlock = 16 / sizeof(real);
template <int Half, size_t... I>
inline vec interleave(vec a, vec b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, (I / kBlock * kBlock + Half * kBlock / 2 + I % kBlock / 2 + I % 2 * kLanes)...);
}
template <int Odd, size_t... I>
inline vec pick(vec a, vec b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, ((2 * (I / kBlock) + Odd) * kBlock + I % kBlock)...);
}

// Lane i of the result is the sum of the lanes of value(i). The values are asked for in pairs and added up as they
// come, which keeps few of them alive.
template <int Count = kLanes, class F>
inline vec sums_of_lanes(F&& value, int first = 0, int step = 1) {
  if constexpr (Count == 1) {
    return value(first);
  } else {
    constexpr auto lanes = std::make_index_sequence<kLanes>();
    constexpr bool inside = Count <= kBlock;
    const vec a = sums_of_lanes<Count / 2>(value, first, inside ? 2 * step : step);
    const vec b = sums_of_lanes<Count / 2>(value, first + (inside ? step : Count / 2), inside ? 2 * step : step);
    if constexpr (inside) return interleave<0>(a, b, lanes) + interleave<1>(a, b, lanes);
    else return pick<0>(a, b, lanes) + pick<1>(a, b, lanes);
  }
}

#if defined(SCAN_DOUBLE)

template <class F>
inline vec each_lane(vec x, F function) {
  for (int i = 0; i < kLanes; ++i) x[i] = function(x[i]);
  return x;
}
inline vec exp2(vec x) {
  return each_lane(x, [](real v) { return std::exp2(v); });
}

#else

// 2^r on [-1/2, 1/2], relative error 1e-7 and exactly 1 at zero: decays are close to one, and an error there would
// compound over thousands of steps.
inline vec exp2_fraction(vec r) {
  vec p = r * 0x1.5bba14p-10f + 0x1.3cea88p-7f;
  p = p * r + 0x1.c6b752p-5f;
  p = p * r + 0x1.ebf9bcp-3f;
  p = p * r + 0x1.62e42ap-1f;
  return p * r + 1.0f;
}

// 2^x where that is a normal number.
inline vec exp2_split(vec x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const vec shifted = x + kRound;
  return exp2_fraction(x - (shifted - kRound)) * (vec)(((bvec)shifted << 23) + (127 << 23));
}

inline vec exp2(vec x) {
#if SCAN_VECTOR_BYTES == 64
  // Both instructions treat infinities and NaN as the exponential should.
  const vec r = (vec)_mm512_maskz_reduce_ps(0xffff, (__m512)x, 8);
  return (vec)_mm512_maskz_scalef_ps(0xffff, (__m512)exp2_fraction(r), (__m512)(x - r));
#else
  vec p = exp2_split(x);
  p = x < -126.0f ? vec{} : p;
  return x >= 128.0f ? vec{} + __builtin_inff() : p;
#endif
}

#endif

// exp2_bounded(x) is 2^x for |x| <= 125, where nothing can overflow: cheaper than exp2, and as accurate.
#if SCAN_VECTOR_BYTES == 64 && !defined(SCAN_DOUBLE)
// x = k/16 + r: a table gives 2^(k/16), less the bits that k adds when it is shifted to the place of the exponent.
alignas(64) constexpr int32_t kSixteenths[16] = {
    0x3f800000, 0x3f7daac3, 0x3f7b95c2, 0x3f79c3d3, 0x3f7837f0, 0x3f76f532, 0x3f75fed7, 0x3f75583f,
    0x3f7504f3, 0x3f7508a4, 0x3f75672a, 0x3f76248c, 0x3f7744fd, 0x3f78ccdf, 0x3f7ac0c7, 0x3f7d257d,
};
inline vec exp2_bounded(vec x) {
  constexpr float kRound = 786432.0f;  // 1.5 * 2^19: adding it leaves the nearest sixteenth in the low bits
  // Hides where x comes from: as part of a multiply-add these sums would wait for the units that are busiest.
  asm("" : "+v"(x));
  const vec shifted = x + kRound;
  const vec r = x - (shifted - kRound);
  const bvec power = (bvec)_mm512_maskz_permutexvar_epi32(0xffff, (__m512i)shifted, _mm512_load_epi32(kSixteenths));
  const vec scale = (vec)(power + ((bvec)shifted << 19));
  const vec q = r * ((r * 0x1.c6b08ep-5f + 0x1.ebfbep-3f) * r + 0x1.62e43p-1f);
  return scale * q + scale;
}
#elif !defined(SCAN_DOUBLE)
inline vec exp2_bounded(vec x) { return exp2_split(x); }
#else
inline vec exp2_bounded(vec x) { return exp2(x); }
#endif

// The larger (smaller) of a number and each lane; NaN stays NaN.
#if SCAN_VECTOR_BYTES == 64 && !defined(SCAN_DOUBLE)
inline vec at_least(real low, vec x) { return (vec)_mm512_maskz_max_ps(0xffff, (__m512)broadcast(low), (__m512)x); }
inline vec at_most(real high, vec x) { return (vec)_mm512_maskz_min_ps(0xffff, (__m512)broadcast(high), (__m512)x); }
#else
inline vec at_least(real low, vec x) { return x < low ? broadcast(low) : x; }
inline vec at_most(real high, vec x) { return x > high ? broadcast(high) : x; }
#endif

inline vec exp(vec x) { return exp2(x * kLog2E); }

// For 1 <= x < 2^100: an estimate and one Newton step cost a third of a division and lose one bit at most.
inline vec reciprocal(vec x) {
#if SCAN_VECTOR_BYTES == 64 && !defined(SCAN_DOUBLE)
  const vec r = (vec)_mm512_maskz_rcp14_ps(0xffff, (__m512)x);
  return r + r * (1 - x * r);
#else
  return 1 / x;
#endif
}

// exp(-|x|), at least 1e-38.
inline vec exp_minus_magnitude(vec x) {
#if defined(SCAN_DOUBLE)
  return exp(x > 0 ? -x : x);
#else
  const bvec sign = bvec{} + static_cast<bits>(0x80000000u);
  return exp2_bounded(at_least(-125, (vec)((bvec)x | sign) * kLog2E));
#endif
}

// log(1 + e) for e in [0, 1], as 2 artanh(e / (2 + e)): relative error 1e-7 down to the smallest e.
inline vec log1p(vec e) {
#if defined(SCAN_DOUBLE)
  return each_lane(e, [](real v) { return std::log1p(v); });
#else
  const vec s = e * reciprocal(e + 2);
  const vec q = s * s;
  vec p = q * 0.28178334f + 0.279606f;
  p = p * q + 0.4002491f;
  p = p * q + 0.66666317f;
  p = p * q + 2.0f;
  return p * s;
#endif
}

inline vec softplus_from(vec x, vec e) { return (x > 0 ? x : vec{}) + log1p(e); }
inline vec sigmoid_from(vec x, vec e) {
  const vec r = reciprocal(1 + e);
  return x > 0 ? r : e * r;
}
inline vec softplus(vec x) { return softplus_from(x, exp_minus_magnitude(x)); }
inline vec sigmoid(vec x) {
#if defined(SCAN_DOUBLE)
  return sigmoid_from(x, exp_minus_magnitude(x));
#else
  return reciprocal(1 + exp2_bounded(at_least(-125, at_most(90, x * -kLog2E))));
#endif
}

// softplus(x); its derivative goes to `slope`.
inline vec softplus(vec x, vec& slope) {
  const vec e = exp_minus_magnitude(x);
  slope = sigmoid_from(x, e);
  return softplus_from(x, e);
}

// Derivative of x * sigmoid(x), given s = sigmoid(x).
inline vec silu_slope(vec x, vec s) { return s * (1 + x * (1 - s)); }

}  // namespace scan
