// State-space dual scan of Mamba-2 (Dao & Gu 2024), forward. A head has one decay and a P x N matrix as state:
//
//   d[t] = softplus(dt[t] + bias),  a[t] = exp(d[t] A)
//   S[t] = a[t] S[t-1] + d[t] x[t] B[t]^T,   out[t] = (S[t] C[t] + D x[t]) silu(z[t])
//
// Lanes are positions within a head; up to 16 columns of S stay in registers over a chunk. That needs two or three
// operations an element and no exponential; on a processor without matrix units the chunked matrix form costs as many.
#pragma once

#include "layout.h"

namespace scan {

// Arguments as Python passes them; strides in elements, null where a tensor is absent. Outputs are dense.
struct Ssd {
  int64_t batch, length, heads, width, groups, states;
  int64_t softplus, reverse, threads, slices;
  const void *x, *B, *C, *z;             // (batch, length, heads, width), B, C (batch, length, groups, states)
  const real *dt, *A, *D, *dt_bias;      // (batch, length, heads) (heads) (heads, width) (heads)
  const real* initial_state;             // (batch, heads, width, states)
  int64_t x_batch, x_time, x_head, z_batch, z_time, z_head;
  int64_t B_batch, B_time, B_group, C_batch, C_time, C_group, dt_batch, dt_time, dt_head;
  void* out;                             // (batch, length, heads, width)
  real* last_state;                      // (batch, heads, width, states)
};

// The rows of one head in scan order, with the number of positions rounded up to whole vectors.
template <class T>
struct Head {
  Rows<const T> x, z, B, C;
  Rows<const real> dt;
  int64_t padded;
  real A, bias;
  const real* skip;

  Head(const Ssd& s, int64_t head)
      : x(shift(s.x, head * s.x_head), s.x_batch, s.x_time, s.length, s.reverse),
        z(shift(s.z, head * s.z_head), s.z_batch, s.z_time, s.length, s.reverse),
        B(shift(s.B, group(s, head) * s.B_group), s.B_batch, s.B_time, s.length, s.reverse),
        C(shift(s.C, group(s, head) * s.C_group), s.C_batch, s.C_time, s.length, s.reverse),
        dt(s.dt + head * s.dt_head, s.dt_batch, s.dt_time, s.length, s.reverse),
        padded(blocks_of(s.width) * kLanes),
        A(s.A[head]),
        bias(s.dt_bias ? s.dt_bias[head] : 0),
        skip(s.D ? s.D + head * s.width : nullptr) {}
  static int64_t group(const Ssd& s, int64_t head) { return head / (s.heads / s.groups); }

 private:
  static const T* shift(const void* from, int64_t by) { return from ? static_cast<const T*>(from) + by : nullptr; }
};

inline int lanes_at(int64_t width, int64_t first) {
  return static_cast<int>(width - first < kLanes ? width - first : kLanes);
}

// Steps, decays and (if asked for) slopes of the softplus of a chunk. Lanes are steps; the buffers hold kChunk numbers.
inline void step_sizes(const Rows<const real>& dt, int64_t batch, int64_t start, int steps, real A, real bias,
                       bool positive, real* step, real* decay, real* slope = nullptr) {
  for (int t = 0; t < steps; ++t) step[t] = *dt.at(batch, start + t) + bias;
  for (int t = steps; t < kChunk; ++t) step[t] = 0;
  for (int t = 0; t < kChunk; t += kLanes) {
    vec d = load(step + t), ds = broadcast(1);
    if (positive) d = softplus(d, ds);
    store(step + t, d);
    store(decay + t, exp(d * A));
    if (slope) store(slope + t, ds);
  }
}

// Reads rows of `width` values into `to`, scaled by one factor a row, with zeros up to `padded`; fetches the rows
// `ahead` steps away, which come next and lie too far apart for the processor to see the pattern.
template <class T>
inline void read_rows(const Rows<const T>& from, int64_t batch, int64_t start, int steps, int64_t width, int64_t padded,
                      const real* factor, int ahead, real* to) {
  for (int t = 0; t < steps; ++t)
    for (int64_t p = 0; p < padded; p += kLanes) {
      __builtin_prefetch(from.at(batch, start + t) + ahead * from.time_stride + p);
      const vec value = load(from.at(batch, start + t) + p, lanes_at(width, p));
      store(to + t * padded + p, factor ? value * factor[t] : value);
    }
}

// Decays of at most kChunk steps in the order of work. Where a segment keeps enough of the state, the state is held
// divided by the product of the decays since the start of the segment: two operations an element instead of three.
class Decays {
 public:
  static constexpr int kSegment = 16;

  Decays(const real* decay, int64_t stride, int steps) : steps(steps) {
    // Far from where a quotient could overflow.
    constexpr double kEnough = 1e-12;
    for (int start = 0; start < steps; start += kSegment) {
      double along = 1;
      for (int t = start; t < segment_end(start); ++t) {
        single[t] = decay[t * stride];
        along *= single[t];
        product[t] = static_cast<real>(along);
        inverse[t] = static_cast<real>(1 / along);
      }
      gentle_[start / kSegment] = along >= kEnough;
    }
  }
  int segment_end(int start) const { return start + kSegment < steps ? start + kSegment : steps; }
  bool gentle(int start) const { return gentle_[start / kSegment]; }

  const int steps;
  real single[kChunk], product[kChunk], inverse[kChunk];

 private:
  bool gentle_[kChunk / kSegment];
};

// What every pass over a head is made of, for one block of lanes and K columns:
//
//   S <- decay[t] S + X[t] b[t]^T,   out[t] += S c[t]
//
// X and out hold a vector a step, b and c K numbers a step, all with signed strides. `Before` reads the state after its
// decay and before the new term, which leaves X[t] <b[t], c[t]> out of the result.
template <int K, bool Before>
SCAN_KERNEL void outer_product_scan(const Decays& decays, Table X, Table b, Table c, vec* state, real* out,
                                    int64_t out_stride) {
  vec S[K];
#pragma GCC unroll 16
  for (int n = 0; n < K; ++n) S[n] = state[n];
  for (int start = 0; start < decays.steps; start += Decays::kSegment) {
    const int end = decays.segment_end(start);
    if (decays.gentle(start)) {
      for (int t = start; t < end; ++t) {
        const vec x = load(X.row(t)) * decays.inverse[t];
        const real *bt = b.row(t), *ct = c.row(t);
        vec even = {}, odd = {};
#pragma GCC unroll 16
        for (int n = 0; n < K; ++n) {
          const vec before = S[n];
          S[n] += x * bt[n];
          (n % 2 ? odd : even) += (Before ? before : S[n]) * ct[n];
        }
        store(out + t * out_stride, load(out + t * out_stride) + (even + odd) * decays.product[t]);
      }
#pragma GCC unroll 16
      for (int n = 0; n < K; ++n) S[n] *= decays.product[end - 1];
    } else {
      for (int t = start; t < end; ++t) {
        const vec x = load(X.row(t));
        const real a = decays.single[t], *bt = b.row(t), *ct = c.row(t);
        vec even = load(out + t * out_stride), odd = {};
#pragma GCC unroll 16
        for (int n = 0; n < K; ++n) {
          const vec decayed = S[n] * a;
          S[n] = decayed + x * bt[n];
          (n % 2 ? odd : even) += (Before ? decayed : S[n]) * ct[n];
        }
        store(out + t * out_stride, even + odd);
      }
    }
  }
#pragma GCC unroll 16
  for (int n = 0; n < K; ++n) state[n] = S[n];
}

// The same for all lanes and columns of a matrix: `lanes` rounded up to whole vectors, `columns` any number. The state
// is stored block of lanes by block, a vector a column.
template <bool Before = false>
inline void matrix_scan(const Decays& decays, Table X, Table b, Table c, int64_t lanes, int64_t columns, vec* state,
                        real* out, int64_t out_stride) {
  for (int64_t p = 0; p < lanes; p += kLanes)
    for_tiles<16>(columns, [&](auto size, int n) {
      outer_product_scan<size, Before>(decays, X.at(p), b.at(n), c.at(n), state + p / kLanes * columns + n, out + p,
                                       out_stride);
    });
}

// A (width, states) matrix as blocks of lanes: lanes over the rows, or over the columns if `transposed`; and back.
inline void load_matrix(const real* from, int64_t width, int64_t states, bool transposed, vec* to) {
  const int64_t lanes = transposed ? states : width, columns = transposed ? width : states;
  for (int64_t p = 0; p < lanes; p += kLanes)
    for (int64_t n = 0; n < columns; ++n) {
      real row[kLanes] = {};
      if (from)
        for (int i = 0; i < lanes_at(lanes, p); ++i)
          row[i] = transposed ? from[n * states + p + i] : from[(p + i) * states + n];
      to[p / kLanes * columns + n] = load(row);
    }
}
inline void store_matrix(const vec* from, int64_t width, int64_t states, real factor, real* to) {
  for (int64_t p = 0; p < width; p += kLanes)
    for (int64_t n = 0; n < states; ++n) {
      real row[kLanes];
      store(row, from[p / kLanes * states + n] * factor);
      for (int i = 0; i < lanes_at(width, p); ++i) to[(p + i) * states + n] = row[i];
    }
}

struct SsdSpace {
  real *step, *decay, *x, *y, *B, *C;
  vec* state;
  SsdSpace(Carver& from, int64_t heads, int64_t width, int64_t states) {
    const int64_t blocks = blocks_of(width), padded = blocks * kLanes;
    step = from.take<real>(kChunk);
    decay = from.take<real>(kChunk);
    x = from.take<real>(kChunk * padded);
    y = from.take<real>(kChunk * padded);
    B = from.take<real>(kChunk * states);
    C = from.take<real>(kChunk * states);
    state = from.take<vec>(heads * blocks * states);
  }
};

template <class T>
void ssd_slice(const Ssd& s, int64_t batch, int64_t begin, int64_t end, SsdSpace work) {
  const int64_t L = s.length, P = s.width, N = s.states, matrix = blocks_of(P) * N;
  for (int64_t h = begin; h < end; ++h)
    load_matrix(s.initial_state ? s.initial_state + (batch * s.heads + h) * P * N : nullptr, P, N, false,
                work.state + (h - begin) * matrix);
  for (int64_t start = 0; start < L; start += kChunk) {
    const int steps = static_cast<int>(L - start < kChunk ? L - start : kChunk);
    int64_t group = -1;
    Table b{}, c{};
    for (int64_t h = begin; h < end; ++h) {
      const Head<T> head(s, h);
      const Rows<T> out(static_cast<T*>(s.out) + h * P, L * s.heads * P, s.heads * P, L, s.reverse);
      if (Head<T>::group(s, h) != group) {
        group = Head<T>::group(s, h);
        b = table(head.B.at(batch, start), head.B.time_stride, steps, N, work.B);
        c = table(head.C.at(batch, start), head.C.time_stride, steps, N, work.C);
      }
      const int64_t padded = head.padded;
      step_sizes(head.dt, batch, start, steps, head.A, head.bias, s.softplus, work.step, work.decay);
      read_rows(head.x, batch, start, steps, P, padded, work.step, kChunk, work.x);
      for (int64_t i = 0; i < steps * padded; ++i) work.y[i] = 0;
      matrix_scan(Decays(work.decay, 1, steps), {work.x, padded}, b, c, padded, N, work.state + (h - begin) * matrix,
                  work.y, padded);
      for (int t = 0; t < steps; ++t)
        for (int64_t p = 0; p < P; p += kLanes) {
          const int count = lanes_at(P, p);
          vec y = load(work.y + t * padded + p);
          if (head.skip) y += load(head.skip + p, count) * load(head.x.at(batch, start + t) + p, count);
          if (head.z) {
            const vec gate = load(head.z.at(batch, start + t) + p, count);
            y *= gate * sigmoid(gate);
          }
          store(out.at(batch, start + t) + p, y, count);
        }
    }
  }
  if (s.last_state)
    for (int64_t h = begin; h < end; ++h)
      store_matrix(work.state + (h - begin) * matrix, P, N, 1, s.last_state + (batch * s.heads + h) * P * N);
}

// Runs body(batch, slice, first head, last head, scratch) over all slices of all batches; false if memory ran out.
template <class Space, class... Sizes, class F>
bool over_heads(const Ssd& s, F&& body, Sizes... sizes) {
  const Scratch<Space, Sizes...> scratch(s.threads, sizes...);
  if (!scratch) return false;
#pragma omp parallel for schedule(static) num_threads(s.threads) if (s.threads > 1)
  for (int64_t item = 0; item < s.batch * s.slices; ++item) {
    Carver carver = scratch.of(thread_index());
    const auto [begin, end] = part(s.heads, s.slices, item % s.slices);
    body(item / s.slices, item % s.slices, begin, end, Space(carver, sizes...));
  }
  return true;
}

template <class T>
bool ssd(const Ssd& s) {
  const int64_t widest = (s.heads + s.slices - 1) / s.slices;
  return over_heads<SsdSpace>(
      s, [&](int64_t batch, int64_t, int64_t begin, int64_t end, SsdSpace work) {
        ssd_slice<T>(s, batch, begin, end, work);
      },
      widest, s.width, s.states);
}

}  // namespace scan
