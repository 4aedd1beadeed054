// State-space dual scan of Mamba-2 (Dao & Gu 2024), forward. A head has one decay and a P x N matrix as state:
//
//   d[t] = softplus(dt[t] + bias),  a[t] = exp(d[t] A)
//   S[t] = a[t] S[t-1] + d[t] x[t] B[t]^T,   out[t] = (S[t] C[t] + D x[t]) silu(z[t])
//
// Lanes are positions within a head; a tile of S stays in registers over a chunk. That needs two or three operations an
// element and no exponential; on a processor without matrix units the chunked matrix form costs as many.
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
  real* chunk_states;                    // (batch, chunks, heads, states, width): state entering each chunk
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

// Reads rows of `width` values into `to`, scaled by one factor a row, with zeros up to `padded`.
template <class T>
inline void read_rows(const Rows<const T>& from, int64_t batch, int64_t start, int steps, int64_t width, int64_t padded,
                      const real* factor, real* to) {
  for (int t = 0; t < steps; ++t)
    for (int64_t p = 0; p < padded; p += kLanes) {
      const vec value = load(from.at(batch, start + t) + p, lanes_at(width, p));
      store(to + t * padded + p, factor ? value * factor[t] : value);
    }
}

// Rows that are needed next, given out in pieces (one column of `together` rows) to be fetched while the present ones
// are computed with.
class Fetches {
 public:
  explicit Fetches(int together) : together_(together) {}
  template <class T>
  void add(const Rows<T>& rows, int64_t batch, int64_t start, int64_t width) {
    for (int64_t p = 0; rows && p < width; p += 64 / static_cast<int64_t>(sizeof(T)))
      for (int t = 0; t < kChunk && count_ < kMost; t += together_) queue_[count_++].add(0, rows, batch, start + t, p);
  }
  Ahead<1> next() { return taken_ < count_ ? queue_[taken_++] : Ahead<1>(); }

 private:
  static constexpr int kMost = 64;
  const int together_;
  int count_ = 0, taken_ = 0;
  Ahead<1> queue_[kMost];
};

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

// What every pass over a head is made of, for M blocks of lanes and K columns of a matrix:
//
//   S <- decay[t] S + X[t] b[t]^T,   out[t] += S c[t]   and, for pairs,   sums[t] += S^T g[t]
//
// X, g and out hold M vectors a step, b and c K numbers a step, all with signed strides. For pairs, the first product
// reads S after its decay and before the new term, which leaves X[t] <b[t], c[t]> out of `out`; and the lanes of
// `sums` are added up halfway, see finish_sums.
struct Tables {
  Table X, b, c, g;
  real* out;
  int64_t out_stride;
  Tables at(int64_t lane, int64_t column) const {
    return {X.at(lane), b.at(column), c.at(column), g.at(lane), out + lane, out_stride};
  }
};

template <int M, int K, bool Pair>
SCAN_KERNEL void outer_product_scan(const Decays& decays, Tables rows, const vec* from, vec* to, int64_t columns,
                                    vec* sums, int sums_stride, const Ahead<1>& ahead) {
  vec S[M][K];
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int n = 0; n < K; ++n) S[m][n] = from[m * columns + n];
  const auto segment = [&](auto gentle, int start, int end) __attribute__((always_inline)) {
    for (int t = start; t < end; ++t) {
      const real *b = rows.b.row(t), *c = rows.c.row(t);
      real* out = rows.out + t * rows.out_stride;
      const real a = decays.single[t], scale = gentle ? decays.product[t] : 1;
      vec x[M], y[M] = {}, g[M] = {};
      ahead.fetch(t);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        x[m] = load(rows.X.row(t) + m * kLanes);
        if (gentle) x[m] *= decays.inverse[t];
        if (Pair) g[m] = load(rows.g.row(t) + m * kLanes);
      }
      const auto column = [&](int n) __attribute__((always_inline)) {
        const vec bn = broadcast(b[n]), cn = broadcast(c[n]);
        vec sum = {};
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
          if (!gentle) S[m][n] *= a;
          const vec before = S[m][n];
          S[m][n] += x[m] * bn;
          y[m] += (Pair ? before : S[m][n]) * cn;
          if (Pair) sum += S[m][n] * g[m];
        }
        return sum;
      };
      if constexpr (Pair) {
        const vec sum = sums_of_lanes<kLanes / 2>([&](int n) { return n < K ? column(n) : vec{}; });
        sums[t * sums_stride] += sum * scale;
      } else {
#pragma GCC unroll 16
        for (int n = 0; n < K; ++n) column(n);
      }
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) store(out + m * kLanes, load(out + m * kLanes) + y[m] * scale);
    }
    if (gentle)
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
        for (int n = 0; n < K; ++n) S[m][n] *= decays.product[end - 1];
  };
  for (int start = 0; start < decays.steps; start = decays.segment_end(start)) {
    if (decays.gentle(start)) segment(std::true_type(), start, decays.segment_end(start));
    else segment(std::false_type(), start, decays.segment_end(start));
  }
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int n = 0; n < K; ++n) to[m * columns + n] = S[m][n];
}

// The same for all lanes and columns of a matrix: `lanes` rounded up to whole vectors, `columns` any number. The state
// is read from and written to blocks of lanes, a vector a column; `sums` are kChunk vectors a tile of columns.
//
// A single product is limited by the multiply-adds even if every number of b and c is read from the cache where it is
// needed; a pair wants to use what it reads for several blocks.
template <bool Pair>
inline void matrix_scan(const Decays& decays, const Tables& rows, int64_t lanes, int64_t columns, const vec* from,
                        vec* to, vec* sums, int sums_stride, Fetches& fetches) {
  constexpr int kColumns = Pair ? kLanes / 2 : 16, kBlocks = !Pair ? 1 : kLanes == 16 ? 3 : 2;
  const auto run = [&](auto many, auto size, int64_t block, int n, vec* tile_sums) {
    const int64_t at = block * columns + n;
    outer_product_scan<many, size, Pair>(decays, rows.at(block * kLanes, n), from + at, to + at, columns, tile_sums,
                                         sums_stride, fetches.next());
  };
  const auto some_blocks = [&](auto many, int64_t first) {
    vec* tile_sums = sums;
    for_tiles<kColumns>(columns, [&](auto size, int n) {
      if constexpr (size == kColumns) {
        run(many, size, first, n, tile_sums);
      } else {
        for (int m = 0; m < many; ++m) run(std::integral_constant<int, 1>(), size, first + m, n, tile_sums);
      }
      if (Pair) tile_sums += kChunk;
    });
  };
  for (int64_t block = 0, left = lanes / kLanes; left > 0;) {
    const int64_t many = left <= kBlocks ? left : kBlocks < 2 ? 1 : 2;
    if constexpr (kBlocks >= 3)
      if (many == 3) some_blocks(std::integral_constant<int, 3>(), block);
    if constexpr (kBlocks >= 2)
      if (many == 2) some_blocks(std::integral_constant<int, 2>(), block);
    if (many == 1) some_blocks(std::integral_constant<int, 1>(), block);
    block += many;
    left -= many;
  }
}

// A (width, states) matrix as blocks of lanes over its rows, zero if there is none; and back.
inline void load_matrix(const real* from, int64_t width, int64_t states, vec* to) {
  for (int64_t p = 0; p < width; p += kLanes)
    for (int64_t n = 0; n < states; ++n) {
      real row[kLanes] = {};
      if (from)
        for (int i = 0; i < lanes_at(width, p); ++i) row[i] = from[(p + i) * states + n];
      to[p / kLanes * states + n] = load(row);
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

// The state entering a chunk, as the backward pass needs it, and back.
inline real* states_of(const Ssd& s, int64_t batch, int64_t chunk, int64_t head) {
  const int64_t chunks = (s.length + kChunk - 1) / kChunk;
  return s.chunk_states + ((batch * chunks + chunk) * s.heads + head) * s.states * s.width;
}
inline void save_states(const vec* state, const Ssd& s, int64_t batch, int64_t chunk, int64_t head) {
  real* to = states_of(s, batch, chunk, head);
  for (int64_t p = 0; p < s.width; p += kLanes)
    for (int64_t n = 0; n < s.states; ++n)
      store(to + n * s.width + p, state[p / kLanes * s.states + n], lanes_at(s.width, p));
}
inline void read_states(const Ssd& s, int64_t batch, int64_t chunk, int64_t head, vec* state) {
  const real* from = states_of(s, batch, chunk, head);
  for (int64_t p = 0; p < s.width; p += kLanes)
    for (int64_t n = 0; n < s.states; ++n)
      state[p / kLanes * s.states + n] = load(from + n * s.width + p, lanes_at(s.width, p));
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
  const auto out_of = [&](int64_t head) {
    return Rows<T>(static_cast<T*>(s.out) + head * P, L * s.heads * P, s.heads * P, L, s.reverse);
  };
  for (int64_t h = begin; h < end; ++h)
    load_matrix(s.initial_state ? s.initial_state + (batch * s.heads + h) * P * N : nullptr, P, N,
                work.state + (h - begin) * matrix);
  for (int64_t start = 0; start < L; start += kChunk) {
    const int steps = static_cast<int>(L - start < kChunk ? L - start : kChunk);
    int64_t group = -1;
    Table b{}, c{};
    for (int64_t h = begin; h < end; ++h) {
      const Head<T> head(s, h);
      const Rows<T> out = out_of(h);
      if (Head<T>::group(s, h) != group) {
        group = Head<T>::group(s, h);
        b = table(head.B.at(batch, start), head.B.time_stride, steps, N, work.B);
        c = table(head.C.at(batch, start), head.C.time_stride, steps, N, work.C);
      }
      const int64_t padded = head.padded;
      step_sizes(head.dt, batch, start, steps, head.A, head.bias, s.softplus, work.step, work.decay);
      read_rows(head.x, batch, start, steps, P, padded, work.step, work.x);
      std::memset(work.y, 0, steps * padded * sizeof(real));
      vec* state = work.state + (h - begin) * matrix;
      if (s.chunk_states) save_states(state, s, batch, start / kChunk, h);
      Fetches fetches(kChunk);
      const int64_t next = h + 1 < end ? start : start + kChunk;
      if (next + kChunk <= L) {
        const int64_t other = h + 1 < end ? h + 1 : begin;
        fetches.add(Head<T>(s, other).x, batch, next, P);
        fetches.add(Head<T>(s, other).z, batch, next, P);
        fetches.add(out_of(other), batch, next, P);
      }
      const Tables rows{{work.x, padded}, b, c, {}, work.y, padded};
      matrix_scan<false>(Decays(work.decay, 1, steps), rows, padded, N, state, state, nullptr, 1, fetches);
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
