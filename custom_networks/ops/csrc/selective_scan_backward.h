// Selective scan, backward. With g the gradient of `out` and gy = g silu(z) that of the sum before the gate:
//
//   l[t] = C[t] gy[t] + a[t+1] l[t+1]         gradient of the state, a = exp(d A); starts from that of the last state
//   q[t] = l[t] a[t] h[t-1]
//   du = d <l, B> + D gy                      dd = u <l, B> + <A, q>,  times sigmoid(x) for softplus
//   dB[t] = sum over channels of l d u        dC[t] = sum over channels of h gy        dA = sum over time of d q
//
// Chunks go last to first. Within one, states are recomputed from the state that the forward pass kept, and stay in
// cache with their decays until the reverse sweep has used them. Segments of the sequence hand on l to the ones before
// them as the segments of the forward pass hand on h.
#pragma once

#include "selective_scan.h"

namespace scan {

// Gradients as Python passes them; all dense but that of z, which may be part of a wider row and be added to. Those of
// B and C come in one part a slice and are summed by the caller, those of A, D, delta_bias in one part a batch and
// segment.
struct SelectiveScanGradients {
  const void* out;             // gradient of out, (batch, length, channels)
  int64_t out_batch, out_time;
  const real* last_state;      // gradient of last_state, (batch, channels, states), or null
  void *u, *delta, *z;         // (batch, length, channels)
  real *A, *D, *delta_bias;    // (batch, segments, channels, states) (batch, segments, channels) twice
  real *B, *C;                 // (slices, batch, length, groups, states)
  real* initial_state;         // (batch, channels, states), or null
  int64_t z_batch, z_time, add_to_z;
};

// States at a time: their gradients of B and C fill a vector.
constexpr int kBackwardTile = kLanes / 2;

struct BackwardSpace {
  vec *u, *z, *g;                                       // one a step: rows of the inputs
  vec *delta, *input, *gy, *y, *slope, *gate, *S, *E;   // one a step
  vec *decay, *state;                                   // kBackwardTile a step; states begin with the entering one
  vec* dBC;                                             // one a step and tile: sums over channels
  vec *rate, *carry, *dA, *dD, *dbias, *steps;          // one or N a block
  real *B, *C;
  vec* entering;
  BackwardSpace(Carver& from, int64_t blocks, int64_t states) {
    for (vec** one : {&u, &z, &g, &delta, &input, &gy, &y, &slope, &gate, &S, &E}) *one = from.take<vec>(kChunk);
    decay = from.take<vec>(kChunk * kBackwardTile);
    state = from.take<vec>((kChunk + 1) * kBackwardTile);
    dBC = from.take<vec>(kChunk * states);
    for (vec** matrix : {&rate, &carry, &dA}) *matrix = from.take<vec>(blocks * states);
    dD = from.take<vec>(blocks);
    dbias = from.take<vec>(blocks);
    steps = from.take<vec>(blocks);
    B = from.take<real>(kChunk * states);
    C = from.take<real>(kChunk * states);
    entering = from.take<vec>(states);
  }
};

// Fills the buffers of a chunk from the rows of u, z, g and delta; returns the largest step sizes. Short loops, because
// the processor overlaps more steps of them than of a long one.
SCAN_KERNEL vec prepare(const BackwardSpace& work, vec bias, vec skip, bool positive, bool gated, int steps) {
  vec most = {};
  vec *delta = work.delta, *y = work.y, *slope = work.slope, *gy = work.gy;
  for (int t = 0; t < steps; ++t) {
    y[t] = delta[t] + bias;
    delta[t] = positive ? exp_minus_magnitude(y[t]) : y[t];
  }
  for (int t = 0; t < steps; ++t) {
    slope[t] = positive ? sigmoid_from(y[t], delta[t]) : broadcast(1);
    if (positive) delta[t] = softplus_from(y[t], delta[t]);
    most = larger_magnitude(most, delta[t]);
    work.input[t] = delta[t] * work.u[t];
    y[t] = skip * work.u[t];
  }
  for (int t = 0; t < steps; ++t) {
    work.S[t] = work.E[t] = vec{};
    gy[t] = work.g[t];
    if (!gated) continue;
    work.gate[t] = sigmoid(work.z[t]);
    gy[t] *= work.z[t] * work.gate[t];
  }
  return most;
}

// What `l` becomes before a chunk, given that after it; K states.
template <int K>
SCAN_KERNEL void hand_back(const vec* rate, const BackwardSpace& work, Table C, vec* carry, int steps) {
  vec l[K];
#pragma GCC unroll 16
  for (int n = 0; n < K; ++n) l[n] = carry[n];
  for (int t = steps - 1; t >= 0; --t) {
    const real* c = C.row(t);
    const vec d = work.delta[t], gy = work.gy[t];
#pragma GCC unroll 16
    for (int n = 0; n < K; ++n) l[n] = (l[n] + gy * c[n]) * exp2(d * rate[n]);
  }
#pragma GCC unroll 16
  for (int n = 0; n < K; ++n) carry[n] = l[n];
}

// Turns S into the gradient of u, E into that of delta and y into that of z.
SCAN_KERNEL void conclude(const BackwardSpace& work, vec skip, bool gated, int steps, vec& dD, vec& dbias) {
  vec *S = work.S, *E = work.E, *y = work.y;
  vec sum = dD, steps_sum = dbias;
  for (int t = 0; t < steps; ++t) {
    E[t] = (work.u[t] * S[t] + E[t] * kLn2) * work.slope[t];
    S[t] = work.delta[t] * S[t] + skip * work.gy[t];
    sum += work.gy[t] * work.u[t];
    steps_sum += E[t];
  }
  if (gated)
    for (int t = 0; t < steps; ++t) y[t] *= work.g[t] * silu_slope(work.z[t], work.gate[t]);
  dD = sum;
  dbias = steps_sum;
}

// Recomputes K states over a chunk and keeps them with their decays; y accumulates.
template <int K, bool Bounded>
SCAN_KERNEL void recompute(const vec* rate, const BackwardSpace& work, Table B, Table C, const vec* entering,
                           int steps, const Ahead<2>& ahead) {
  vec h[K];
#pragma GCC unroll 16
  for (int n = 0; n < K; ++n) work.state[n] = h[n] = entering[n];
  for (int t = 0; t < steps; ++t) {
    const real *b = B.row(t), *c = C.row(t);
    const vec d = work.delta[t], w = work.input[t];
    vec y = work.y[t];
    ahead.fetch(t);
#pragma GCC unroll 16
    for (int n = 0; n < K; ++n) {
      const vec a = decay<Bounded>(d * rate[n]);
      h[n] = a * h[n] + w * b[n];
      y += h[n] * c[n];
      work.decay[t * K + n] = a;
      work.state[(t + 1) * K + n] = h[n];
    }
    work.y[t] = y;
  }
}

// The reverse sweep over a chunk for K states. S and E accumulate <l, B> and <A log2(e), q>. A vector of dBC holds the
// gradients of B in its first half and of C in its second.
template <int K>
__attribute__((flatten)) SCAN_KERNEL void sweep(const vec* rate, const BackwardSpace& work, Table B, Table C,
                                                vec* carry, vec* dA, vec* dBC, int steps, const Ahead<2>& ahead) {
  vec l[K], sum[K];
#pragma GCC unroll 16
  for (int n = 0; n < K; ++n) {
    l[n] = carry[n];
    sum[n] = dA[n];
  }
  for (int t = steps - 1; t >= 0; --t) {
    const real *b = B.row(t), *c = C.row(t);
    const vec d = work.delta[t], w = work.input[t], gy = work.gy[t];
    const vec *decay = work.decay + t * K, *state = work.state + t * K;
    vec S = work.S[t], E = work.E[t];
    ahead.fetch(t);
    dBC[t] += sums_of_lanes([&](int i) {
      const int n = i % kBackwardTile;
      if (n >= K) return vec{};
      if (i < kBackwardTile) {
        l[n] += gy * c[n];
        S += l[n] * b[n];
        return l[n] * w;
      }
      l[n] *= decay[n];
      const vec q = l[n] * state[n];
      E += q * rate[n];
      sum[n] += d * q;
      return state[K + n] * gy;
    });
    work.S[t] = S;
    work.E[t] = E;
  }
#pragma GCC unroll 16
  for (int n = 0; n < K; ++n) {
    carry[n] = l[n];
    dA[n] = sum[n];
  }
}

// A slice of blocks over a segment; `ahead_of_time` to find what the segment hands on, without gradients.
template <class T>
void selective_scan_backward_slice(const Segment& segment, bool ahead_of_time, const SelectiveScanGradients& grad,
                                   int64_t slice, int64_t begin, int64_t end, BackwardSpace work) {
  const SelectiveScan& s = segment.s;
  const int64_t batch = segment.batch, piece = batch * s.segments + segment.index;
  const bool reverse = s.reverse;
  const int64_t L = s.length, N = s.states, D = s.channels;
  const Rows<const T> u(static_cast<const T*>(s.u), s.u_batch, s.u_time, L, reverse);
  const Rows<const T> delta(static_cast<const T*>(s.delta), s.delta_batch, s.delta_time, L, reverse);
  const Rows<const T> z(static_cast<const T*>(s.z), s.z_batch, s.z_time, L, reverse);
  const Rows<const T> B(static_cast<const T*>(s.B), s.B_batch, s.B_time, L, reverse);
  const Rows<const T> C(static_cast<const T*>(s.C), s.C_batch, s.C_time, L, reverse);
  const Rows<const T> g(static_cast<const T*>(grad.out), grad.out_batch, grad.out_time, L, reverse);
  const Rows<T> du(static_cast<T*>(grad.u), L * D, D, L, reverse);
  const Rows<T> ddelta(static_cast<T*>(grad.delta), L * D, D, L, reverse);
  const Rows<T> dz(static_cast<T*>(grad.z), grad.z_batch, grad.z_time, L, reverse);
  const int64_t wide = s.groups * N, part_size = s.batch * L * wide;
  const Rows<real> dB(grad.B + slice * part_size, L * wide, wide, L, reverse);
  const Rows<real> dC(grad.C + slice * part_size, L * wide, wide, L, reverse);
  const int64_t chunks = (L + kChunk - 1) / kChunk;

  for (int64_t k = begin; k < end; ++k) {
    const Block block(k, D, s.groups);
    const int64_t at = (k - begin) * N;
    gather_states(s.A, N, block, kLog2E, work.rate + at);
    const real* last = grad.last_state && segment.last() ? grad.last_state + batch * D * N : nullptr;
    if (segment.last() || ahead_of_time) gather_states(last, N, block, 1, work.carry + at);
    else Segment{s, batch, segment.index + 1}.recall(block, work.carry + at);
    work.steps[k - begin] = vec{};
    for (int64_t n = 0; n < N; ++n) work.dA[at + n] = vec{};
    work.dD[k - begin] = work.dbias[k - begin] = vec{};
  }

  for (int64_t chunk = segment.last_chunk() - 1; chunk >= segment.first_chunk(); --chunk) {
    const int64_t start = chunk * kChunk;
    const int steps = static_cast<int>(L - start < kChunk ? L - start : kChunk);
    Table b{}, c{};
    int64_t group = -1;
    const auto finish_group = [&] {
      if (group < 0 || ahead_of_time) return;
      vec* sums = work.dBC;
      for_tiles<kBackwardTile>(N, [&](auto size, int n) {
        for (int t = 0; t < steps; ++t) {
          real row[kLanes];
          store(row, sums[t]);
          std::memcpy(dB.at(batch, start + t) + group * N + n, row, size * sizeof(real));
          std::memcpy(dC.at(batch, start + t) + group * N + n, row + kBackwardTile, size * sizeof(real));
        }
        sums += kChunk;
      });
    };
    for (int64_t k = begin; k < end; ++k) {
      const Block block(k, D, s.groups);
      const int64_t at = (k - begin) * N;
      if (block.group != group) {
        finish_group();
        group = block.group;
        for (int64_t i = 0; i < kChunk * N; ++i) work.dBC[i] = vec{};
        b = table(B.at(batch, start) + group * s.B_group, B.time_stride, steps, N, work.B);
        c = table(C.at(batch, start) + group * s.C_group, C.time_stride, steps, N, work.C);
      }
      for (int64_t n = 0; n < N; ++n)
        work.entering[n] =
            load(s.chunk_states + ((batch * chunks + chunk) * N + n) * D + block.first, block.count);

      const vec bias = load_channels(s.delta_bias, block), skip = load_channels(s.D, block);
      gather_rows(delta, batch, start, block.first, block.count, steps, work.delta);
      gather_rows(u, batch, start, block.first, block.count, steps, work.u);
      gather_rows(g, batch, start, block.first, block.count, steps, work.g);
      if (z) gather_rows(z, batch, start, block.first, block.count, steps, work.z);
      const vec most = prepare(work, bias, skip, s.softplus, bool(z), steps);
      if (ahead_of_time) {
        for (int t = 0; t < steps; ++t) work.steps[k - begin] += work.delta[t];
        for_tiles<kBackwardTile>(N, [&](auto size, int n) {
          hand_back<size>(work.rate + at + n, work, c.at(n), work.carry + at + n, steps);
        });
        continue;
      }

      // Few streams at a time, or they would wait for each other: some with each of the first kernels.
      Ahead<2> ahead[4];
      const int64_t next_start = k + 1 < end ? start : start - kChunk;
      if (next_start >= 0 && next_start + kChunk <= L) {
        const int64_t first = Block(k + 1 < end ? k + 1 : begin, D, s.groups).first;
        const real* states = s.chunk_states + (batch * chunks + next_start / kChunk) * N * D + first;
        for (int64_t n = 0; n < N; ++n) __builtin_prefetch(states + n * D);
        int stream = 0;
        const auto add = [&](const auto& rows) {
          ahead[stream / 2].add(stream % 2, rows, batch, next_start, first);
          ++stream;
        };
        for (const auto& rows : {u, delta, z, g}) add(rows);
        for (const auto& rows : {du, ddelta, dz}) add(rows);
      }
      const bool gentle = bounded(most, work.rate + at, N);
      int kernel = 0;
      const auto fetched = [&] { return kernel < 4 ? ahead[kernel++] : Ahead<2>(); };
      vec* dBC = work.dBC;
      for_tiles<kBackwardTile>(N, [&](auto size, int n) {
        const vec* rate = work.rate + at + n;
        const auto again = gentle ? recompute<size, true> : recompute<size, false>;
        again(rate, work, b.at(n), c.at(n), work.entering + n, steps, fetched());
        sweep<size>(rate, work, b.at(n), c.at(n), work.carry + at + n, work.dA + at + n, dBC, steps, fetched());
        dBC += kChunk;
      });

      conclude(work, skip, bool(z), steps, work.dD[k - begin], work.dbias[k - begin]);
      scatter_rows(work.S, false, du, batch, start, block.first, block.count, steps);
      scatter_rows(work.E, false, ddelta, batch, start, block.first, block.count, steps);
      if (z) scatter_rows(work.y, grad.add_to_z, dz, batch, start, block.first, block.count, steps);
    }
    finish_group();
  }
  for (int64_t k = begin; k < end; ++k) {
    const Block block(k, D, s.groups);
    const int64_t at = (k - begin) * N;
    if (ahead_of_time) {
      segment.keep(work.carry + at, block);
      store(segment.steps() + block.first, work.steps[k - begin], block.count);
      continue;
    }
    scatter_states(work.dA + at, N, block, grad.A + piece * D * N);
    if (grad.initial_state && segment.first())
      scatter_states(work.carry + at, N, block, grad.initial_state + batch * D * N);
    if (grad.D) store(grad.D + piece * D + block.first, work.dD[k - begin], block.count);
    if (grad.delta_bias) store(grad.delta_bias + piece * D + block.first, work.dbias[k - begin], block.count);
  }
}

template <class T>
bool selective_scan_backward(const SelectiveScan& s, const SelectiveScanGradients& grad) {
  const auto run = [&](bool ahead_of_time) {
    return over_slices<BackwardSpace>(
        s, [&](const Segment& segment, int64_t slice, int64_t begin, int64_t end, BackwardSpace work) {
          if (ahead_of_time && segment.first()) return;
          selective_scan_backward_slice<T>(segment, ahead_of_time, grad, slice, begin, end, work);
        });
  };
  if (s.segments > 1) {
    if (!run(true)) return false;
    for (int64_t batch = 0; batch < s.batch; ++batch)
      for (int64_t i = s.segments - 2; i > 0; --i) hand_on({s, batch, i + 1}, {s, batch, i});
  }
  return run(false);
}

}  // namespace scan
