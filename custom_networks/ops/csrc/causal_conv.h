// Depthwise causal convolution over time, forward and backward:
//
//   s[t] = bias + sum_k w[k] x[t - W + 1 + k],   out = s or silu(s)
//   gs = g silu'(s):   dx[t] = sum_k w[k] gs[t + W - 1 - k],   dw[k] = sum_t gs[t] x[t - W + 1 + k],   dbias = sum gs
//
// Lanes are channels. A piece of work is a range of rows; it is done a few rows at a time, block of channels after
// block, so that memory is read as a few streams.
#pragma once

#include "layout.h"

namespace scan {

constexpr int kMaxWidth = 16;

struct CausalConv {
  int64_t batch, length, channels, width, silu, reverse, threads, ranges;
  const void* x;                     // (batch, length, channels)
  const real *weight, *bias;         // (width, channels) (channels)
  int64_t x_batch, x_time;
  void* out;                         // (batch, length, channels)
};

struct CausalConvGradients {
  const void* out;                   // (batch, length, channels)
  int64_t out_batch, out_time;
  void* x;                           // (batch, length, channels)
  real *weight, *bias;               // one part a range: (batch, ranges, width, channels) (batch, ranges, channels)
  int64_t x_batch, x_time, add_to_x; // x may be part of a wider row and be added to
};

// The taps of one block of channels. W is the width, or 0 where it is known only at run time.
template <class T, int W>
class Taps {
 public:
  Taps(const CausalConv& c, Rows<const T> x, int64_t batch, int64_t first)
      : x_(x), batch_(batch), first_(first), silu_(c.silu), width_(static_cast<int>(c.width)) {
    const int64_t left = c.channels - first;
    count = static_cast<int>(left < kLanes ? left : kLanes);
    for (int k = 0; k < width(); ++k) weight[k] = load(c.weight + k * c.channels + first, count);
    bias_ = c.bias ? load(c.bias + first, count) : vec{};
  }
  int width() const { return W ? W : width_; }
  // Row t, zero before the sequence.
  vec row(int64_t t) const { return t < 0 ? vec{} : load(x_.at(batch_, t) + first_, count); }
  // Fills a window with the rows that precede time t; its last place is for row t itself.
  void open(vec* window, int64_t t) const {
    for (int k = 0; k < width() - 1; ++k) window[k + 1] = row(t - width() + 1 + k);
  }
  // Moves the window to end at row t.
  void advance(vec* window, int64_t t) const {
    for (int k = 0; k < width() - 1; ++k) window[k] = window[k + 1];
    window[width() - 1] = load(x_.at(batch_, t) + first_, count);
  }
  vec sum(const vec* window) const {
    vec s = bias_;
    for (int k = 0; k < width(); ++k) s += weight[k] * window[k];
    return s;
  }
  vec value(const vec* window) const {
    const vec s = sum(window);
    return silu_ ? s * sigmoid(s) : s;
  }
  // Gradient of the sum, given that of the output.
  vec gradient(const vec* window, vec g) const {
    if (!silu_) return g;
    const vec s = sum(window);
    return g * silu_slope(s, sigmoid(s));
  }

  static constexpr int kRoom = W ? W : kMaxWidth;
  int count;
  vec weight[kRoom];

 private:
  const Rows<const T> x_;
  const int64_t batch_, first_;
  const bool silu_;
  const int width_;
  vec bias_;
};

constexpr int kRowsTogether = 8;

template <class T, int W>
void causal_conv_range(const CausalConv& c, int64_t batch, int64_t begin, int64_t end) {
  const Rows<const T> x(static_cast<const T*>(c.x), c.x_batch, c.x_time, c.length, c.reverse);
  const Rows<T> out(static_cast<T*>(c.out), c.length * c.channels, c.channels, c.length, c.reverse);
  for (int64_t start = begin; start < end; start += kRowsTogether) {
    const int64_t stop = start + kRowsTogether < end ? start + kRowsTogether : end;
    for (int64_t first = 0; first < c.channels; first += kLanes) {
      const Taps<T, W> taps(c, x, batch, first);
      vec window[taps.kRoom];
      taps.open(window, start);
      for (int64_t t = start; t < stop; ++t) {
        taps.advance(window, t);
        // The row that comes after these, too far away for the processor to expect it.
        __builtin_prefetch(x.at(batch, t + kRowsTogether) + first);
        store(out.at(batch, t) + first, taps.value(window), taps.count);
      }
    }
  }
}

struct ConvSpace {
  vec* later;  // the first W - 1 gradients of the rows after those at hand, for every block
  ConvSpace(Carver& from, int64_t blocks) { later = from.take<vec>(blocks * kMaxWidth); }
};

// The gradients of the sums at the W - 1 times from `end` on, zero behind the sequence.
template <class T, int W>
void gradients_behind(const Taps<T, W>& taps, const Rows<const T>& g, int64_t batch, int64_t first, int64_t end,
                      int64_t length, vec* gs) {
  vec window[Taps<T, W>::kRoom];
  taps.open(window, end);
  for (int j = 0; j < taps.width() - 1; ++j) {
    gs[j] = vec{};
    if (end + j >= length) continue;
    taps.advance(window, end + j);
    gs[j] = taps.gradient(window, load(g.at(batch, end + j) + first, taps.count));
  }
}

// Rows go last to first, so that the gradients of later rows are at hand when dx needs them.
template <class T, int W>
void causal_conv_backward_range(const CausalConv& c, const CausalConvGradients& grad, int64_t batch, int64_t range,
                                int64_t begin, int64_t end, ConvSpace work) {
  const Rows<const T> x(static_cast<const T*>(c.x), c.x_batch, c.x_time, c.length, c.reverse);
  const Rows<const T> g(static_cast<const T*>(grad.out), grad.out_batch, grad.out_time, c.length, c.reverse);
  const Rows<T> dx(static_cast<T*>(grad.x), grad.x_batch, grad.x_time, c.length, c.reverse);
  real* dweight = grad.weight + (batch * c.ranges + range) * c.width * c.channels;
  real* dbias = grad.bias + (batch * c.ranges + range) * c.channels;
  for (int64_t i = 0; i < c.width * c.channels; ++i) dweight[i] = 0;
  for (int64_t i = 0; i < c.channels; ++i) dbias[i] = 0;

  for (int64_t stop = end; stop > begin; stop -= kRowsTogether) {
    const int64_t start = stop - kRowsTogether > begin ? stop - kRowsTogether : begin;
    const int rows = static_cast<int>(stop - start);
    for (int64_t first = 0; first < c.channels; first += kLanes) {
      const Taps<T, W> taps(c, x, batch, first);
      const int width = taps.width(), count = taps.count;
      vec* later = work.later + first / kLanes * kMaxWidth;
      vec xs[kRowsTogether + taps.kRoom - 1], gs[kRowsTogether + taps.kRoom - 1], dw[taps.kRoom] = {}, db = {};
      for (int i = 0; i < rows + width - 1; ++i) xs[i] = taps.row(start - width + 1 + i);
      for (int i = 0; i < rows; ++i) {
        __builtin_prefetch(x.at(batch, start - kRowsTogether - width + 1 + i) + first);
        __builtin_prefetch(g.at(batch, start - kRowsTogether + i) + first);
        __builtin_prefetch(dx.at(batch, start - kRowsTogether + i) + first, 1);
        gs[i] = taps.gradient(xs + i, load(g.at(batch, start + i) + first, count));
      }
      if (stop < end)
        for (int j = 0; j < width - 1; ++j) gs[rows + j] = later[j];
      else
        gradients_behind(taps, g, batch, first, end, c.length, gs + rows);
      for (int i = 0; i < rows; ++i) {
        db += gs[i];
#pragma GCC unroll 4
        for (int k = 0; k < width; ++k) dw[k] += gs[i] * xs[i + k];
      }
      for (int i = 0; i < rows; ++i) {
        vec sum = {};
#pragma GCC unroll 4
        for (int k = 0; k < width; ++k) sum += taps.weight[k] * gs[i + width - 1 - k];
        T* to = dx.at(batch, start + i) + first;
        store(to, grad.add_to_x ? load(to, count) + sum : sum, count);
      }
      for (int j = 0; j < width - 1; ++j) later[j] = gs[j];
      for (int k = 0; k < width; ++k) {
        real* to = dweight + k * c.channels + first;
        store(to, load(to, count) + dw[k], count);
      }
      store(dbias + first, load(dbias + first, count) + db, count);
    }
  }
}

// Runs body(batch, range, first row, last row) over all ranges of all batches.
template <class F>
void over_ranges(const CausalConv& c, F&& body) {
#pragma omp parallel for schedule(static) num_threads(c.threads) if (c.threads > 1)
  for (int64_t item = 0; item < c.batch * c.ranges; ++item) {
    const auto [begin, end] = part(c.length, c.ranges, item % c.ranges);
    body(item / c.ranges, item % c.ranges, begin, end);
  }
}

template <class T>
bool causal_conv(const CausalConv& c) {
  over_ranges(c, [&](int64_t batch, int64_t, int64_t begin, int64_t end) {
    if (c.width == 4) causal_conv_range<T, 4>(c, batch, begin, end);
    else causal_conv_range<T, 0>(c, batch, begin, end);
  });
  return true;
}

template <class T>
bool causal_conv_backward(const CausalConv& c, const CausalConvGradients& grad) {
  const Scratch<ConvSpace, int64_t> scratch(c.threads, blocks_of(c.channels));
  if (!scratch) return false;
  over_ranges(c, [&](int64_t batch, int64_t range, int64_t begin, int64_t end) {
    Carver carver = scratch.of(thread_index());
    const ConvSpace work(carver, blocks_of(c.channels));
    if (c.width == 4) causal_conv_backward_range<T, 4>(c, grad, batch, range, begin, end, work);
    else causal_conv_backward_range<T, 0>(c, grad, batch, range, begin, end, work);
  });
  return true;
}

}  // namespace scan
