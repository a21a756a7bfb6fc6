// The ends of the veth benchmark: who sends the packets, who answers or swallows them, and what stands at the doors of the
// forwarders. Compiled by scripts/bench-veth.sh; needs no libbpf headers.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#define SECTION(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name
#define swap16(x) __builtin_bswap16(x)
#define swap32(x) __builtin_bswap32(x)
#define LENGTH 60 // without FCS: the smallest Ethernet frame

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static __u32 (*bpf_get_prandom_u32)(void) = (void *)BPF_FUNC_get_prandom_u32;
static long (*bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;
static long (*bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;

struct state { __u64 frames, next, flow; };
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct state); } STATE SECTION(".maps");
struct { __uint(type, BPF_MAP_TYPE_XSKMAP); __uint(max_entries, 64); __type(key, __u32); __type(value, __u32); } SOCKETS SECTION(".maps");

// Set before loading. Addresses in host byte order, MACs in their lower 48 bits.
const volatile __u32 OUT = 0;         // generate: interface to send through
const volatile __u32 FLOWS = 1024;    // generate: 16384 source ports of each client address
const volatile __u32 IN_ORDER = 0;    // generate: one flow after the other, else at random
const volatile __u32 INTERVAL = 0;    // generate: nanoseconds between two frames, 0 for as fast as it goes
const volatile __u32 PROTOCOL = IPPROTO_UDP;
const volatile __u32 TCP_FLAGS = 0x10; // generate: ACK, or SYN to open the flows
const volatile __u32 CLIENTS = 0, VIP = 0;
const volatile __u64 FROM = 0, TO = 0;
const volatile __u32 REFLECT = 0;     // answer: send everything back, not only the answer to a SYN

// Set while it runs.
volatile __u32 STOPPED = 0; // generate: what is left of the call is dropped, some 20 ns a frame

static inline __attribute__((always_inline)) void put_mac(__u8 *at, __u64 mac)
{
#pragma unroll
	for (int i = 0; i < 6; i++)
		at[i] = mac >> (40 - 8 * i);
}

static inline __attribute__((always_inline)) __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

// Keeps to the interval by spinning; the frames of a batch still leave together.
static inline __attribute__((always_inline)) void pace(struct state *state)
{
	__u64 now = bpf_ktime_get_ns();
	if (!INTERVAL)
		return;
	if (state->next + 1000000 < now)
		state->next = now; // Late by more than a millisecond, as at the start: no catching up.
	for (int i = 0; i < 400 && now < state->next; i++)
		now = bpf_ktime_get_ns();
	state->next += INTERVAL;
}

// The frame's page comes back with whatever the receiver wrote into it, so every byte is written each time.
SECTION("xdp") int generate(struct xdp_md *context)
{
	__u8 *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	__u32 zero = 0, sum = 0;
	struct state *state = bpf_map_lookup_elem(&STATE, &zero);
	if (data + LENGTH > end || !state)
		return XDP_ABORTED;
	if (STOPPED)
		return XDP_DROP;
	__u32 flow = (IN_ORDER ? state->flow++ : bpf_get_prandom_u32()) % FLOWS;
	struct ethhdr *ether = (void *)data;
	struct iphdr *ip = (void *)(ether + 1);
	struct tcphdr *tcp = (void *)(ip + 1);
	struct udphdr *udp = (void *)(ip + 1);
	__u16 *words = (void *)ip;
#pragma unroll
	for (int i = 14; i < LENGTH; i += 2)
		*(__u16 *)(data + i) = 0;
	put_mac(ether->h_dest, TO);
	put_mac(ether->h_source, FROM);
	ether->h_proto = swap16(ETH_P_IP);
	__u16 length = PROTOCOL == IPPROTO_TCP ? 40 : LENGTH - 14;
	words[0] = swap16(0x4500);
	ip->tot_len = swap16(length);
	ip->ttl = 64;
	ip->protocol = PROTOCOL;
	ip->saddr = swap32(CLIENTS + (flow >> 14));
	ip->daddr = swap32(VIP);
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += words[i];
	ip->check = fold(sum);
	tcp->source = swap16(1024 + (flow & 16383));
	tcp->dest = swap16(80);
	if (PROTOCOL == IPPROTO_TCP) {
		// Both sides begin at 999, so an ACK at 1000 is right in either direction.
		tcp->seq = swap32(TCP_FLAGS & 2 ? 999 : 1000);
		tcp->ack_seq = swap32(TCP_FLAGS & 2 ? 0 : 1000);
		words[16] = swap16(0x5000 | TCP_FLAGS);
		tcp->window = swap16(65535);
	} else {
		udp->len = swap16(length - 20);
	}
	sum = swap16(PROTOCOL) + swap16(length - 20);
#pragma unroll
	for (int i = 6; i < 23; i++)
		sum += words[i];
	__u16 check = fold(sum);
	if (PROTOCOL == IPPROTO_TCP)
		tcp->check = check;
	else
		udp->check = check ? check : 0xffff;
	pace(state);
	state->frames++;
	return bpf_redirect(OUT, 0);
}

// The IP header of a TCP or UDP packet over IPv4 without options, with room for a TCP header behind it.
static inline __attribute__((always_inline)) struct iphdr *transport(struct xdp_md *context)
{
	struct ethhdr *ether = (void *)(long)context->data;
	struct iphdr *ip = (void *)(ether + 1);
	struct tcphdr *tcp = (void *)(ip + 1);
	if ((void *)(tcp + 1) > (void *)(long)context->data_end || ether->h_proto != swap16(ETH_P_IP) || ip->ihl != 5)
		return 0;
	return ip->protocol == IPPROTO_TCP || ip->protocol == IPPROTO_UDP ? ip : 0;
}

static inline __attribute__((always_inline)) void count(void)
{
	__u32 zero = 0;
	struct state *state = bpf_map_lookup_elem(&STATE, &zero);
	if (state)
		state->frames++;
}

// The servers: all traffic is counted and swallowed or sent back; a SYN is always answered.
SECTION("xdp") int answer(struct xdp_md *context)
{
	struct iphdr *ip = transport(context);
	if (!ip)
		return XDP_PASS;
	struct ethhdr *ether = (void *)(long)context->data;
	struct tcphdr *tcp = (void *)(ip + 1);
	int opening = ip->protocol == IPPROTO_TCP && tcp->syn;
	if (opening) {
		// SYN at 999 becomes SYN/ACK of 1000; RFC 1624 with what is added.
		tcp->ack_seq = swap32(1000);
		tcp->ack = 1;
		tcp->check = fold((__u16)~tcp->check + swap16(1000) + swap16(0x10));
	} else {
		count();
		if (!REFLECT)
			return XDP_DROP;
	}
	__u8 mac[6];
	__builtin_memcpy(mac, ether->h_dest, 6);
	__builtin_memcpy(ether->h_dest, ether->h_source, 6);
	__builtin_memcpy(ether->h_source, mac, 6);
	__u32 address = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = address;
	__u16 port = tcp->source;
	tcp->source = tcp->dest;
	tcp->dest = port;
	return XDP_TX;
}

// The clients: what comes back is counted and swallowed.
SECTION("xdp") int swallow(struct xdp_md *context)
{
	if (!transport(context))
		return XDP_PASS;
	count();
	return XDP_DROP;
}

// In front of the bare forwarder: it gets all there is.
SECTION("xdp") int take(struct xdp_md *context)
{
	return transport(context) ? bpf_redirect_map(&SOCKETS, context->rx_queue_index, XDP_PASS) : XDP_PASS;
}

// In front of the kernel: veth takes redirected frames only where a native program is attached.
SECTION("xdp") int pass(struct xdp_md *context)
{
	return XDP_PASS;
}

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
