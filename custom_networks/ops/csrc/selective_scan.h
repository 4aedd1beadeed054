// Selective scan of Mamba (Gu & Dao 2023), forward. With x = delta + bias and d = softplus(x):
//
//   h[t] = exp(d[t] A) h[t-1] + d[t] u[t] B[t]        one state of N numbers a channel
//   out[t] = (<C[t], h[t]> + D u[t]) silu(z[t])
//
// Lanes are channels. A thread owns a slice of blocks of kLanes channels; it walks the sequence in chunks and, inside
// a chunk, block after block, so that the rows of neighboring blocks are still cached. Where there are more threads
// than blocks, the sequence is cut into segments too: a first pass finds the state that each segment leaves, starting
// from zero, and its decay; from these follow the states that enter the segments of the second pass.
#pragma once

#include "layout.h"

namespace scan {

// Arguments as Python passes them: sizes and strides in elements, null where a tensor is absent. Every tensor has its
// last dimension contiguous. Outputs are dense.
struct SelectiveScan {
  int64_t batch, length, channels, states, groups;
  int64_t softplus, reverse, accumulate, threads, slices, segments;   // accumulate: add to what `out` holds
  const void *u, *delta, *z;       // (batch, length, channels)
  const void *B, *C;               // (batch, length, groups, states)
  const real* A;                   // (channels, states)
  const real *D, *delta_bias;      // (channels)
  const real* initial_state;       // (batch, channels, states)
  int64_t u_batch, u_time, delta_batch, delta_time, z_batch, z_time;
  int64_t B_batch, B_time, B_group, C_batch, C_time, C_group;
  void* out;                       // (batch, length, channels)
  real* last_state;                // (batch, channels, states)
  real* chunk_states;              // (batch, chunks, states, channels): state entering each chunk
  real* segment_states;            // (batch, segments, states, channels), work space if there are several segments
  real* segment_steps;             // (batch, segments, channels), the same
};

// A block of at most kLanes channels of one group.
struct Block {
  int64_t group, first;
  int count;

  Block(int64_t index, int64_t channels, int64_t groups) {
    const int64_t wide = channels / groups, blocks = blocks_of(wide), inside = index % blocks * kLanes;
    group = index / blocks;
    first = group * wide + inside;
    count = static_cast<int>(wide - inside < kLanes ? wide - inside : kLanes);
  }
};

inline int64_t block_count(const SelectiveScan& s) { return s.groups * blocks_of(s.channels / s.groups); }

inline vec load_channels(const real* row, const Block& block) {
  return row ? load(row + block.first, block.count) : vec{};
}

// A (channels, states) matrix of a block, states outermost, and back.
inline void gather_states(const real* from, int64_t states, const Block& block, real scale, vec* to) {
  for (int64_t n = 0; n < states; ++n) {
    real row[kLanes] = {};
    if (from)
      for (int i = 0; i < block.count; ++i) row[i] = from[(block.first + i) * states + n] * scale;
    to[n] = load(row);
  }
}
inline void scatter_states(const vec* from, int64_t states, const Block& block, real* to) {
  for (int64_t n = 0; n < states; ++n) {
    real row[kLanes];
    store(row, from[n]);
    for (int i = 0; i < block.count; ++i) to[(block.first + i) * states + n] = row[i];
  }
}

template <bool Bounded>
inline vec decay(vec exponent) {
  return Bounded ? exp2_bounded(exponent) : exp2(exponent);
}

inline vec larger_magnitude(vec most, vec x) {
  const vec size = x < 0 ? -x : x;
  return size > most ? size : most;
}

// Whether exp2_bounded serves for the decays of a chunk, given the largest step sizes. A step size that is no number
// does not count: it spoils the state anyway.
inline bool bounded(vec largest_step, const vec* rate, int64_t states) {
  vec largest_rate = {}, sum = {};
  for (int64_t n = 0; n < states; ++n) {
    largest_rate = larger_magnitude(largest_rate, rate[n]);
    sum += rate[n];
  }
  real exponent[kLanes];
  store(exponent, largest_step * largest_rate + 0 * sum);  // the sum carries what is no number
  bool all = true;
  for (int i = 0; i < kLanes; ++i) all = all & (exponent[i] <= 125);
  return all;
}

// The recurrence over one chunk for K states, which stay in registers. `rate` is A log2(e); y accumulates.
template <int K, bool Bounded>
SCAN_KERNEL void recur(const vec* rate, const vec* delta, const vec* input, Table B, Table C, vec* state, vec* y,
                       int steps, const Ahead<4>& ahead) {
  vec h[K];
#pragma GCC unroll 16
  for (int n = 0; n < K; ++n) h[n] = state[n];
  for (int t = 0; t < steps; ++t) {
    const real *b = B.row(t), *c = C.row(t);
    const vec d = delta[t], w = input[t];
    vec even = y[t], odd = {};
    ahead.fetch(t);
#pragma GCC unroll 16
    for (int n = 0; n < K; ++n) {
      h[n] = decay<Bounded>(d * rate[n]) * h[n] + w * b[n];
      (n % 2 ? odd : even) += h[n] * c[n];
    }
    y[t] = even + odd;
  }
#pragma GCC unroll 16
  for (int n = 0; n < K; ++n) state[n] = h[n];
}

struct ForwardSpace {
  vec *delta, *input, *y, *rate, *state, *steps;
  real *B, *C;
  ForwardSpace(Carver& from, int64_t blocks, int64_t states) {
    delta = from.take<vec>(kChunk);
    input = from.take<vec>(kChunk);
    y = from.take<vec>(kChunk);
    B = from.take<real>(kChunk * states);
    C = from.take<real>(kChunk * states);
    rate = from.take<vec>(blocks * states);
    state = from.take<vec>(blocks * states);
    steps = from.take<vec>(blocks);
  }
};

// The state that a segment of the sequence hands on, and the sum of its step sizes, in the work space.
struct Segment {
  const SelectiveScan& s;
  const int64_t batch, index;
  int64_t first_chunk() const { return chunks() * index / s.segments; }
  int64_t last_chunk() const { return chunks() * (index + 1) / s.segments; }
  int64_t chunks() const { return (s.length + kChunk - 1) / kChunk; }
  bool first() const { return index == 0; }
  bool last() const { return index + 1 == s.segments; }
  real* steps() const { return s.segment_steps + (batch * s.segments + index) * s.channels; }
  real* states() const { return s.segment_states + (batch * s.segments + index) * s.states * s.channels; }
  void keep(const vec* state, const Block& block) const {
    for (int64_t n = 0; n < s.states; ++n) store(states() + n * s.channels + block.first, state[n], block.count);
  }
  void recall(const Block& block, vec* state) const {
    for (int64_t n = 0; n < s.states; ++n) state[n] = load(states() + n * s.channels + block.first, block.count);
  }
};

// Adds what `before` hands on, decayed over `segment`, to what `segment` hands on.
inline void hand_on(const Segment& before, const Segment& segment) {
  const SelectiveScan& s = segment.s;
  for (int64_t n = 0; n < s.states; ++n)
    for (int64_t d = 0; d < s.channels; ++d)
      segment.states()[n * s.channels + d] +=
          std::exp(segment.steps()[d] * s.A[d * s.states + n]) * before.states()[n * s.channels + d];
}

// A slice of blocks over a segment; `ahead_of_time` to find what the segment hands on, without outputs.
template <class T>
void selective_scan_slice(const Segment& segment, bool ahead_of_time, int64_t begin, int64_t end, ForwardSpace work) {
  const SelectiveScan& s = segment.s;
  const int64_t batch = segment.batch;
  const bool reverse = s.reverse;
  const int64_t L = s.length, N = s.states;
  const Rows<const T> u(static_cast<const T*>(s.u), s.u_batch, s.u_time, L, reverse);
  const Rows<const T> delta(static_cast<const T*>(s.delta), s.delta_batch, s.delta_time, L, reverse);
  const Rows<const T> z(static_cast<const T*>(s.z), s.z_batch, s.z_time, L, reverse);
  const Rows<const T> B(static_cast<const T*>(s.B), s.B_batch, s.B_time, L, reverse);
  const Rows<const T> C(static_cast<const T*>(s.C), s.C_batch, s.C_time, L, reverse);
  const Rows<T> out(static_cast<T*>(s.out), L * s.channels, s.channels, L, reverse);
  const int64_t chunks = (L + kChunk - 1) / kChunk;

  for (int64_t k = begin; k < end; ++k) {
    const Block block(k, s.channels, s.groups);
    gather_states(s.A, N, block, kLog2E, work.rate + (k - begin) * N);
    const real* initial = s.initial_state && segment.first() ? s.initial_state + batch * s.channels * N : nullptr;
    if (segment.first() || ahead_of_time) gather_states(initial, N, block, 1, work.state + (k - begin) * N);
    else Segment{s, batch, segment.index - 1}.recall(block, work.state + (k - begin) * N);
    work.steps[k - begin] = vec{};
  }
  for (int64_t chunk = segment.first_chunk(); chunk < segment.last_chunk(); ++chunk) {
    const int64_t start = chunk * kChunk;
    const int steps = static_cast<int>(L - start < kChunk ? L - start : kChunk);
    Table b{}, c{};
    int64_t group = -1;
    for (int64_t k = begin; k < end; ++k) {
      const Block block(k, s.channels, s.groups);
      vec *rate = work.rate + (k - begin) * N, *state = work.state + (k - begin) * N;
      if (block.group != group) {
        group = block.group;
        b = table(B.at(batch, start) + group * s.B_group, B.time_stride, steps, N, work.B);
        c = table(C.at(batch, start) + group * s.C_group, C.time_stride, steps, N, work.C);
      }
      if (s.chunk_states && !ahead_of_time)
        for (int64_t n = 0; n < N; ++n)
          store(s.chunk_states + ((batch * chunks + chunk) * N + n) * s.channels + block.first, state[n], block.count);

      const vec bias = load_channels(s.delta_bias, block), skip = load_channels(s.D, block);
      // Two short loops: the processor overlaps more steps of them than of a long one.
      vec most = {}, all = {};
      for (int t = 0; t < steps; ++t) {
        const vec x = load(delta.at(batch, start + t) + block.first, block.count) + bias;
        work.y[t] = x;
        work.delta[t] = s.softplus ? exp_minus_magnitude(x) : x;
      }
      for (int t = 0; t < steps; ++t) {
        const vec value = load(u.at(batch, start + t) + block.first, block.count);
        if (s.softplus) work.delta[t] = softplus_from(work.y[t], work.delta[t]);
        most = larger_magnitude(most, work.delta[t]);
        all += work.delta[t];
        work.input[t] = work.delta[t] * value;
        work.y[t] = skip * value;
      }

      work.steps[k - begin] += all;

      Ahead<4> ahead;
      const int64_t next_start = k + 1 < end ? start : start + kChunk;
      if (next_start + kChunk <= L) {
        const int64_t first = Block(k + 1 < end ? k + 1 : begin, s.channels, s.groups).first;
        int stream = 0;
        for (const auto& rows : {u, delta, z}) ahead.add(stream++, rows, batch, next_start, first);
        ahead.add(3, out, batch, next_start, first);
      }
      const auto run = [&](auto largest_tile, auto bounded) {
        for_tiles<largest_tile>(N, [&](auto size, int n) {
          recur<size, bounded>(rate + n, work.delta, work.input, b.at(n), c.at(n), state + n, work.y, steps,
                               n == 0 ? ahead : Ahead<4>());
        });
      };
      if (bounded(most, rate, N)) run(std::integral_constant<int, 16>(), std::true_type());
      else run(std::integral_constant<int, 4>(), std::false_type());

      for (int t = 0; t < steps && !ahead_of_time; ++t) {
        vec y = work.y[t];
        if (z) {
          const vec gate = load(z.at(batch, start + t) + block.first, block.count);
          y *= gate * sigmoid(gate);
        }
        T* to = out.at(batch, start + t) + block.first;
        store(to, s.accumulate ? load(to, block.count) + y : y, block.count);
      }
    }
  }
  for (int64_t k = begin; k < end && ahead_of_time; ++k) {
    const Block block(k, s.channels, s.groups);
    segment.keep(work.state + (k - begin) * N, block);
    store(segment.steps() + block.first, work.steps[k - begin], block.count);
  }
  if (s.last_state && segment.last())
    for (int64_t k = begin; k < end; ++k)
      scatter_states(work.state + (k - begin) * N, N, Block(k, s.channels, s.groups),
                     s.last_state + batch * s.channels * N);
}

// Runs `body(segment, slice, first block, last block, scratch)` over all slices of all segments of all batches; false
// when memory ran out.
template <class Space, class F>
bool over_slices(const SelectiveScan& s, F&& body) {
  const int64_t blocks = block_count(s), widest = (blocks + s.slices - 1) / s.slices;
  const Scratch<Space, int64_t, int64_t> scratch(s.threads, widest, s.states);
  if (!scratch) return false;
#pragma omp parallel for schedule(static) num_threads(s.threads) if (s.threads > 1)
  for (int64_t item = 0; item < s.batch * s.segments * s.slices; ++item) {
    Carver carver = scratch.of(thread_index());
    const auto [begin, end] = part(blocks, s.slices, item % s.slices);
    const Segment segment{s, item / s.slices / s.segments, item / s.slices % s.segments};
    body(segment, item % s.slices, begin, end, Space(carver, widest, s.states));
  }
  return true;
}

template <class T>
bool selective_scan(const SelectiveScan& s) {
  const auto run = [&](bool ahead_of_time) {
    return over_slices<ForwardSpace>(
        s, [&](const Segment& segment, int64_t, int64_t begin, int64_t end, ForwardSpace work) {
          if (ahead_of_time && segment.last()) return;
          selective_scan_slice<T>(segment, ahead_of_time, begin, end, work);
        });
  };
  if (s.segments > 1) {
    if (!run(true)) return false;
    for (int64_t batch = 0; batch < s.batch; ++batch)
      for (int64_t i = 1; i + 1 < s.segments; ++i) hand_on({s, batch, i - 1}, {s, batch, i});
  }
  return run(false);
}

}  // namespace scan
