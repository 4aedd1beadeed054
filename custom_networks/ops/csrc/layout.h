// Where rows lie in memory and how work is cut: signed strides, states in tiles, slices of channels, scratch memory.
#pragma once

#include <cstdlib>
#include <utility>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "simd.h"

namespace scan {

// Steps between two stored states, and between two sweeps over the channel blocks. Python knows it too.
#if !defined(SCAN_CHUNK)
#define SCAN_CHUNK 64
#endif
constexpr int kChunk = SCAN_CHUNK;

// A (batch, time, ...) tensor whose last dimension is contiguous, seen in scan order: the anti-causal direction is a
// base at the last row and a negative stride.
template <class T>
struct Rows {
  T* base = nullptr;
  int64_t batch_stride = 0;
  int64_t time_stride = 0;

  Rows(T* data, int64_t batch, int64_t time, int64_t length, bool reverse)
      : base(data), batch_stride(batch), time_stride(time) {
    if (reverse && data) {
      base += (length - 1) * time;
      time_stride = -time;
    }
  }
  explicit operator bool() const { return base; }
  T* at(int64_t batch, int64_t time) const { return base + batch * batch_stride + time * time_stride; }
};

// Rows of numbers in the type of the arithmetic.
struct Table {
  const real* base;
  int64_t stride;
  const real* row(int64_t t) const { return base + t * stride; }
  Table at(int64_t column) const { return {base + column, stride}; }
  Table from(int64_t t) const { return {row(t), stride}; }
};

// Gives `steps` rows of `width` values as a table: in place where the type allows, else widened into `buffer`.
template <class T>
inline Table table(const T* from, int64_t stride, int steps, int width, real* buffer) {
  if constexpr (std::is_same_v<T, real>) {
    return {from, stride};
  } else {
    for (int t = 0; t < steps; ++t)
      for (int n = 0; n < width; ++n) buffer[t * width + n] = widen(from[t * stride + n]);
    return {buffer, width};
  }
}

// Rows that are needed next, fetched step by step while the present ones are computed with. All are asked for as if to
// be written, which costs nothing where they are only read. Unused streams point to something that is cached anyway.
template <int Streams>
class Ahead {
 public:
  Ahead() {
    for (const char*& row : row_) row = reinterpret_cast<const char*>(this);
  }
  template <class T>
  void add(int i, const Rows<T>& rows, int64_t batch, int64_t start, int64_t first) {
    if (!rows) return;
    row_[i] = reinterpret_cast<const char*>(rows.at(batch, start) + first);
    stride_[i] = rows.time_stride * static_cast<int64_t>(sizeof(T));
  }
  void fetch(int t) const {
#pragma GCC unroll 8
    for (int i = 0; i < Streams; ++i) __builtin_prefetch(row_[i] + t * stride_[i], 1);
  }

 private:
  const char* row_[Streams];
  int64_t stride_[Streams] = {};
};

// Copies `count` lanes of consecutive rows into vectors, and back (or adds them to what is there).
template <class T>
inline void gather_rows(const Rows<T>& from, int64_t batch, int64_t start, int64_t first, int count, int steps,
                        vec* to) {
  const T* row = from.at(batch, start) + first;
  for (int t = 0; t < steps; ++t, row += from.time_stride) to[t] = load(row, count);
}
template <class T>
inline void scatter_rows(const vec* from, bool add, const Rows<T>& to, int64_t batch, int64_t start, int64_t first,
                         int count, int steps) {
  T* row = to.at(batch, start) + first;
  for (int t = 0; t < steps; ++t, row += to.time_stride) store(row, add ? load(row, count) + from[t] : from[t], count);
}

// The inner loops: compiled once for all types of tensors.
#define SCAN_KERNEL __attribute__((noinline)) static

// Cuts `count` states into register tiles of at most `Largest` and calls f(tile size as a type, first state).
template <int Largest, class F>
inline void for_tiles(int count, F&& f) {
  int n = 0;
  const auto run = [&](auto size) {
    for (; count - n >= size; n += size) f(size, n);
  };
  if constexpr (Largest >= 16) run(std::integral_constant<int, 16>{});
  if constexpr (Largest >= 8) run(std::integral_constant<int, 8>{});
  if constexpr (Largest >= 4) run(std::integral_constant<int, 4>{});
  if constexpr (Largest == 2) run(std::integral_constant<int, 2>{});
  run(std::integral_constant<int, 1>{});
}

inline int thread_index() {
#if defined(_OPENMP)
  return omp_get_thread_num();
#else
  return 0;
#endif
}

inline int64_t blocks_of(int64_t width) { return (width + kLanes - 1) / kLanes; }

// Half-open range of part `index` when `count` things are cut into `parts` nearly equal parts.
inline std::pair<int64_t, int64_t> part(int64_t count, int64_t parts, int64_t index) {
  return {count * index / parts, count * (index + 1) / parts};
}

// Hands out consecutive pieces of one thread's scratch memory. The odd gap keeps buffers that are walked together from
// falling on the same cache sets.
class Carver {
 public:
  explicit Carver(char* start) : start_(start), used_(0) {}
  template <class T>
  T* take(int64_t count) {
    T* out = reinterpret_cast<T*>(start_ + used_);
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64 + 192;
    return out;
  }
  int64_t used() const { return used_; }

 private:
  char* start_;
  int64_t used_;
};

// One piece of memory for all threads of a call, allocated before the parallel region, where failing is harmless.
// `Space` takes what it needs from a Carver in its constructor; a trial run of that tells the size.
template <class Space, class... Sizes>
class Scratch {
 public:
  Scratch(int64_t threads, Sizes... sizes) : data_(nullptr) {
    Carver trial(nullptr);
    Space(trial, sizes...);
    stride_ = trial.used() + 4096 + 320;
    stride_ = (stride_ + 63) / 64 * 64;
    data_ = static_cast<char*>(std::aligned_alloc(64, threads * stride_));
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  explicit operator bool() const { return data_; }
  Carver of(int thread) const { return Carver(data_ + thread * stride_); }

 private:
  int64_t stride_;
  char* data_;
};

}  // namespace scan
