// Both ends of a measurement: `generate` makes frames in the kernel, `arrive` counts, times and reflects them.
//
// The layouts of TRAFFIC, CONTROL, PROGRESS, ARRIVED and the stamp are those of plan.rs, live.rs, end.rs, arrived.rs and stamp.rs.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name
#define swap16(x) __builtin_bswap16(x)
#define swap32(x) __builtin_bswap32(x)
#define swap64(x) __builtin_bswap64(x)

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static __u32 (*bpf_get_prandom_u32)(void) = (void *)BPF_FUNC_get_prandom_u32;
static long (*bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;
static long (*bpf_xdp_adjust_tail)(struct xdp_md *context, int delta) = (void *)BPF_FUNC_xdp_adjust_tail;

#define STAMP 18
#define SIZES 16
#define SYN 0x02
#define ACK 0x10
#define KINDS 4            // measured, its reply, opening, its reply
#define REPLY 1
#define OPENING 2
#define BUCKETS 2560       // 64 for each power of two
#define WINDOW (1 << 17)   // sequence numbers among which a duplicate is found
#define PKTGEN 0xbe9be955u // the kernel's own generator

// What is sent; set before loading, in host byte order but for addresses.
struct traffic {
	__u32 out, ipv6, protocol, flood;
	__u32 flows, addresses, port, smallest;
	__u32 largest, reflect, answer_syn, kernel;
	__s64 clock;           // nanoseconds that the wall clock is ahead of the monotonic one, for stamps of the kernel's generator
	__u32 sizes[SIZES];
	__u8 clients[16], vip[16];
	__u8 to[6], from[6];
	__u8 rest[4];
};
const volatile struct traffic TRAFFIC = {};

struct control { __u64 interval, burst, limit, tag, tcp_flags, in_order, only_smallest, slack; };
struct progress { __u64 sent, bytes, next, left, place, began, last; };
struct arrived { __u64 frames, bytes, duplicates, late, first, last, fastest, slowest, highest; };
struct latency { __u64 buckets[BUCKETS]; };

struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct control); } CONTROL SECTION(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct progress); } PROGRESS SECTION(".maps");
// Below, what frames carry; above, how often the counts began anew.
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); } TAG SECTION(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, KINDS); __type(key, __u32); __type(value, struct arrived); } ARRIVED SECTION(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, struct latency); } LATENCY SECTION(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4 * WINDOW); __type(key, __u32); __type(value, __u64); } SEEN SECTION(".maps");

INLINE __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

INLINE void put16(__u8 *at, __u16 value) { *(__u16 *)at = swap16(value); }
INLINE void put32(__u8 *at, __u32 value) { *(__u32 *)at = swap32(value); }

// Whether a frame is due. What is made up for when this comes late, by `slack` nanoseconds and more, is 64 frames at most.
INLINE int due(struct control *control, struct progress *progress)
{
	if (progress->left)
		return 1;
	__u64 now = bpf_ktime_get_ns();
	if (!progress->began)
		progress->began = progress->next = now; // the call has built up its pages
	if (now < progress->next)
		return 0;
	__u64 next = progress->next + control->interval;
	progress->next = next + control->slack < now ? now - control->slack : next;
	progress->left = control->burst;
	progress->last = now;
	return 1;
}

// Headers and stamp of a frame of `length` bytes. Its page comes back with whatever the receiver wrote into it, so every byte that
// anybody rewrites on the way is written each time; behind the stamp are the zeros of the template.
INLINE int write(struct xdp_md *context, struct control *control, __u64 sequence, __u32 length, const int ipv6, const int tcp)
{
	const int ip_bytes = ipv6 ? 40 : 20, l4_bytes = tcp ? 20 : 8, addresses = ipv6 ? 32 : 8;
	__u8 *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	__u8 *ip = data + 14, *l4 = ip + ip_bytes, *stamp = l4 + l4_bytes;
	if (stamp + STAMP > end)
		return 0;
	__u32 host, port;
	if (TRAFFIC.flood) {
		host = bpf_get_prandom_u32() % TRAFFIC.addresses;
		port = 1024 + bpf_get_prandom_u32() % 64512;
	} else {
		__u32 flow = (control->in_order ? (__u32)sequence : bpf_get_prandom_u32()) % TRAFFIC.flows;
		host = flow % TRAFFIC.addresses;
		port = 1024 + flow / TRAFFIC.addresses;
	}
#pragma unroll
	for (int i = 0; i < 6; i++) {
		data[i] = TRAFFIC.to[i];
		data[6 + i] = TRAFFIC.from[i];
	}
	__u32 payload = length - 14 - ip_bytes; // of IP
	__u8 *source = l4 - addresses, *destination = l4 - addresses / 2;
#pragma unroll
	for (int i = 0; i < addresses / 2; i++) {
		source[i] = TRAFFIC.clients[i];
		destination[i] = TRAFFIC.vip[i];
	}
	__u32 *lower = (__u32 *)(destination - 4);
	*lower = swap32(swap32(*lower) + host);
	if (ipv6) {
		put16(data + 12, ETH_P_IPV6);
		put32(ip, 0x60000000);
		put16(ip + 4, payload);
		put16(ip + 6, TRAFFIC.protocol << 8 | 64);
	} else {
		__u32 sum = 0;
		put16(data + 12, ETH_P_IP);
		put16(ip, 0x4500);
		put16(ip + 2, length - 14);
		put32(ip + 4, 0x4000); // do not fragment
		put16(ip + 8, 64 << 8 | TRAFFIC.protocol);
		put16(ip + 10, 0);
#pragma unroll
		for (int i = 0; i < 20; i += 2)
			sum += *(__u16 *)(ip + i);
		*(__u16 *)(ip + 10) = fold(sum);
	}
	put16(l4, port);
	put16(l4 + 2, TRAFFIC.port);
	if (tcp) {
		// Both sides begin at 999, so an ACK at 1000 is right in either direction.
		int syn = control->tcp_flags & SYN;
		put32(l4 + 4, syn ? 999 : 1000);
		put32(l4 + 8, syn ? 0 : 1000);
		put16(l4 + 12, 0x5000 | (__u16)control->tcp_flags);
		put16(l4 + 14, 65535);
		put32(l4 + 16, 0);
	} else {
		put16(l4 + 4, payload);
		put16(l4 + 6, 0);
	}
	put32(stamp, control->tag);
	put16(stamp + 4, sequence >> 32);
	put32(stamp + 6, sequence);
	*(__u64 *)(stamp + 10) = swap64(bpf_ktime_get_ns());
	__u32 sum = swap16(TRAFFIC.protocol) + swap16((__u16)payload);
#pragma unroll
	for (int i = -addresses; i < l4_bytes + STAMP; i += 2)
		sum += *(__u16 *)(l4 + i);
	__u16 check = fold(sum);
	*(__u16 *)(l4 + (tcp ? 16 : 6)) = check ? check : 0xffff; // RFC 768: 0 says that there is none
	return 1;
}

// On live frames: sends one if it is due. What is dropped here was never sent.
SECTION("xdp") int generate(struct xdp_md *context)
{
	__u32 zero = 0;
	struct control *control = bpf_map_lookup_elem(&CONTROL, &zero);
	struct progress *progress = bpf_map_lookup_elem(&PROGRESS, &zero);
	if (!control || !progress || progress->sent >= control->limit || !due(control, progress))
		return XDP_DROP;
	__u32 place = progress->place & (SIZES - 1);
	__u32 length = control->only_smallest ? TRAFFIC.smallest : TRAFFIC.sizes[place];
	progress->place = place + 1 < 12 ? place + 1 : 0;
	if (length != TRAFFIC.largest && bpf_xdp_adjust_tail(context, (int)length - (int)TRAFFIC.largest))
		return XDP_ABORTED;
	int tcp = TRAFFIC.protocol == IPPROTO_TCP, written;
	__u64 sequence = progress->sent;
	if (TRAFFIC.ipv6)
		written = tcp ? write(context, control, sequence, length, 1, 1) : write(context, control, sequence, length, 1, 0);
	else
		written = tcp ? write(context, control, sequence, length, 0, 1) : write(context, control, sequence, length, 0, 0);
	if (!written)
		return XDP_ABORTED;
	progress->left--;
	progress->bytes += length;
	progress->sent++;
	return bpf_redirect(TRAFFIC.out, 0);
}

// Index of the bucket: below 64 ns one each, then 64 for each power of two.
INLINE __u32 bucket(__u64 time)
{
	__u64 rest = time >> 6;
	__u32 shift = 0;
	if (!rest)
		return time;
#pragma unroll
	for (int step = 32; step; step >>= 1)
		if (rest >> step) {
			rest >>= step;
			shift += step;
		}
	return ((shift + 1) << 6) + ((time >> shift) & 63);
}

INLINE void record(__u32 kind, __u64 sequence, __u64 round, __u64 sent, __u64 now, __u32 bytes)
{
	struct arrived *arrived = bpf_map_lookup_elem(&ARRIVED, &kind);
	__u32 slot = (kind & (KINDS - 1)) * WINDOW + (sequence & (WINDOW - 1));
	__u64 *seen = bpf_map_lookup_elem(&SEEN, &slot), mark = round << 48 | (sequence + 1);
	if (!arrived || !seen)
		return;
	// Another core may have the same frame at this moment.
	if (__sync_lock_test_and_set(seen, mark) == mark) {
		arrived->duplicates++;
		return;
	}
	__u64 time = now > sent ? now - sent : 0;
	if (!arrived->frames) {
		arrived->first = now;
		arrived->fastest = time;
	}
	if (sequence < arrived->highest)
		arrived->late++;
	else
		arrived->highest = sequence;
	if (time < arrived->fastest)
		arrived->fastest = time;
	if (time > arrived->slowest)
		arrived->slowest = time;
	arrived->frames++;
	arrived->bytes += bytes;
	arrived->last = now;
	struct latency *latency = bpf_map_lookup_elem(&LATENCY, &kind);
	__u32 index = bucket(time);
	if (latency && kind < 2)
		latency->buckets[index < BUCKETS ? index : BUCKETS - 1]++;
}

INLINE void swap_bytes(__u8 *a, __u8 *b, int bytes)
{
#pragma unroll
	for (int i = 0; i < bytes; i += 2) {
		__u16 word = *(__u16 *)(a + i);
		*(__u16 *)(a + i) = *(__u16 *)(b + i);
		*(__u16 *)(b + i) = word;
	}
}

INLINE int arrived(struct xdp_md *context, const int ipv6, const int tcp)
{
	const int ip_bytes = ipv6 ? 40 : 20, l4_bytes = tcp ? 20 : 8, address = ipv6 ? 16 : 4;
	__u8 *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	__u8 *l4 = data + 14 + ip_bytes, *stamp = l4 + l4_bytes;
	__u32 zero = 0;
	__u64 *tag = bpf_map_lookup_elem(&TAG, &zero), now = bpf_ktime_get_ns(), sent, sequence;
	if (stamp + STAMP > end || !tag || (tcp && l4[12] >> 4 != 5))
		return XDP_PASS;
	__u32 other = swap32(*(__u32 *)stamp) ^ (__u32)*tag, kind = other & (KINDS - 1);
	if (other >> 10)
		return XDP_PASS;  // not of this run
	if (other >> 2)
		return XDP_DROP;  // of a trial before this one: too late to be counted
	if (TRAFFIC.kernel) {
		sequence = swap32(*(__u32 *)(stamp + 4));
		sent = swap32(*(__u32 *)(stamp + 8)) * 1000000000ull + swap32(*(__u32 *)(stamp + 12)) * 1000ull - TRAFFIC.clock;
	} else {
		sequence = (__u64)swap16(*(__u16 *)(stamp + 4)) << 32 | swap32(*(__u32 *)(stamp + 6));
		sent = swap64(*(__u64 *)(stamp + 10));
	}
	record(kind, sequence, *tag >> 32, sent, now, end - data);
	int syn = tcp && (l4[13] & (SYN | ACK)) == SYN;
	if (kind & REPLY || !(TRAFFIC.reflect || (syn && TRAFFIC.answer_syn)))
		return XDP_DROP;
	// The sums do not change by what is swapped, but by the kind and the flags (RFC 1624).
	__u16 *check = (__u16 *)(l4 + (tcp ? 16 : 6)), before = *(__u16 *)(stamp + 2);
	swap_bytes(data, data + 6, 6);
	swap_bytes(l4 - 2 * address, l4 - address, address);
	swap_bytes(l4, l4 + 2, 2);
	stamp[3] ^= REPLY;
	__u32 sum = (__u16)~*check + (__u16)~before + *(__u16 *)(stamp + 2);
	if (syn) {
		put32(l4 + 8, 1000);
		l4[13] |= ACK;
		sum += swap16(1000) + swap16(ACK);
	}
	if (tcp || *check) {
		__u16 changed = fold(sum);
		*check = changed ? changed : 0xffff;
	}
	return XDP_TX;
}

// On an interface: what carries this run's stamp is counted, and sent back or swallowed; everything else is the kernel's.
SECTION("xdp") int arrive(struct xdp_md *context)
{
	__u8 *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	if (data + 34 > end)
		return XDP_PASS;
	__u16 type = swap16(*(__u16 *)(data + 12));
	if (type == ETH_P_IP && data[14] == 0x45) {
		if (data[23] == IPPROTO_UDP)
			return arrived(context, 0, 0);
		if (data[23] == IPPROTO_TCP)
			return arrived(context, 0, 1);
	} else if (type == ETH_P_IPV6) {
		if (data[20] == IPPROTO_UDP)
			return arrived(context, 1, 0);
		if (data[20] == IPPROTO_TCP)
			return arrived(context, 1, 1);
	}
	return XDP_PASS;
}

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
