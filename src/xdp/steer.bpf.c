// The steering program: which frames go to weir's AF_XDP socket of the queue they came in on, and which stay with the kernel.
//
// Ours, over IPv4 and IPv6, untagged or with one 802.1Q tag:
//   - TCP, UDP, SCTP and DCCP to a service (VIP, port, protocol), or to any port of a VIP that serves them all;
//   - TCP to the ports from 1024 on of a VIP of a service with a helper: its data connections;
//   - GRE and echo requests to a VIP that serves them;
//   - the replies of backends to a SNAT address: all of TCP and UDP, and the other protocols as long as there is a service of them;
//   - fragments of a protocol to a VIP that serves it, or to a SNAT address. Only the first fragment knows its ports, so all of them go
//     one way;
//   - ICMP errors to one of these addresses, about a packet that weir sent: its source is a service or a SNAT address;
//   - what of all that ends before it can be told, and IPv6 with more extension headers than are read: nobody else could use it either, and
//     weir drops it with a reason.
// All else passes: ARP, neighbour discovery, other ICMP, ports of a VIP that are no service, errors about the host's own traffic, and
// whatever was sent to a broadcast or multicast link address.
//
// What has no whole IP header, or a malformed one, passes too. What is ours but comes in on a queue without a socket passes and is
// counted, so that the traffic never silently vanishes.
//
// No libbpf headers: the kernel's own are enough. Loops are unrolled or bounded, and only helpers of Linux 5.15 are called.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#define SECTION(name) __attribute__((section(name), used))
#define UINT(name, value) int(*name)[value]
#define TYPE(name, value) typeof(value) *name
#define INLINE static inline __attribute__((always_inline))
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BE16(x) ((__be16)__builtin_bswap16(x))
#else
#define BE16(x) ((__be16)(x))
#endif

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;

// What an address of weir claims; src/xdp/targets.rs has the same numbers.
enum claim {
	TCP_PORTS = 1 << 0, // a VIP with TCP services, on the ports in SERVICES*
	UDP_PORTS = 1 << 1,
	SCTP_PORTS = 1 << 2,
	DCCP_PORTS = 1 << 3,
	TCP_ALL = 1 << 4, // every TCP port: a VIP that serves them, or a SNAT address
	UDP_ALL = 1 << 5,
	SCTP_ALL = 1 << 6,
	DCCP_ALL = 1 << 7,
	GRE_ALL = 1 << 8,
	ECHO_REQUESTS = 1 << 9, // a VIP that serves echoes
	ECHO_REPLIES = 1 << 10, // a SNAT address while there is such a VIP
	TCP_UPPER = 1 << 11, // TCP ports from 1024 on: a VIP to which data connections of a helper come
};

// Ports are in network byte order, the padding is 0: these are map keys.
struct service4 {
	__be32 address;
	__be16 port;
	__u8 protocol;
	__u8 padding;
};

struct service6 {
	struct in6_addr address;
	__be16 port;
	__u8 protocol;
	__u8 padding;
};

// Twice the number of entries that user space allows: a reload adds the new ones before it removes the old ones.
struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, 32768);
	UINT(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, struct service4);
	TYPE(value, __u8);
} SERVICES4 SECTION(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, 32768);
	UINT(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, struct service6);
	TYPE(value, __u8);
} SERVICES6 SECTION(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, 8192);
	UINT(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, __be32);
	TYPE(value, __u16);
} CLAIMS4 SECTION(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, 8192);
	UINT(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, struct in6_addr);
	TYPE(value, __u16);
} CLAIMS6 SECTION(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_XSKMAP);
	UINT(max_entries, 256);
	TYPE(key, __u32);
	TYPE(value, __u32);
} SOCKETS SECTION(".maps");

enum counter { REDIRECTED, UNSERVED, PASSED, COUNTERS };

struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	UINT(max_entries, COUNTERS);
	TYPE(key, __u32);
	TYPE(value, __u64);
} COUNTS SECTION(".maps");

struct vlan {
	__be16 tag;
	__be16 type;
};

struct ports {
	__be16 source;
	__be16 destination;
};

struct fragment {
	__u8 next;
	__u8 reserved;
	__be16 offset;
	__be32 identification;
};

// As many extension headers as src/packet walks.
#define EXTENSION_HEADERS 8
#define ICMP_HEADER 8

// RFC 792; <linux/icmp.h> cannot be included without the C library's headers for 32 bits.
#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_ECHO 128
#define ICMPV6_ECHO_REPLY 129

INLINE void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&COUNTS, &counter);
	if (value)
		*value += 1;
}

// Whether all packets of the protocol are ours at an address.
INLINE int claims_all(__u16 claims, __u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return claims & TCP_ALL;
	case IPPROTO_UDP:
		return claims & UDP_ALL;
	case IPPROTO_SCTP:
		return claims & SCTP_ALL;
	case IPPROTO_DCCP:
		return claims & DCCP_ALL;
	case IPPROTO_GRE:
		return claims & GRE_ALL;
	default:
		return 0;
	}
}

// Whether a port belongs to those that data connections come to.
INLINE int claims_upper(__u16 claims, __u8 protocol, __be16 port)
{
	// In network byte order the first byte is the upper one.
	return claims & TCP_UPPER && protocol == IPPROTO_TCP && *(__u8 *)&port >= 1024 / 256;
}

// Whether some of them are, those to certain ports or of certain types.
INLINE int claims_some(__u16 claims, __u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return claims & TCP_PORTS;
	case IPPROTO_UDP:
		return claims & UDP_PORTS;
	case IPPROTO_SCTP:
		return claims & SCTP_PORTS;
	case IPPROTO_DCCP:
		return claims & DCCP_PORTS;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return claims & (ECHO_REQUESTS | ECHO_REPLIES);
	default:
		return 0;
	}
}

// Whether a packet of the protocol may be ours, when its ports and types cannot be seen.
INLINE int claims_any(__u16 claims, __u8 protocol)
{
	return claims_all(claims, protocol) || claims_some(claims, protocol);
}

// Whether an ICMP message of this type is an echo to a VIP, or a reply to a SNAT address.
INLINE int claims_echo(__u16 claims, __u8 type, __u8 echo, __u8 reply)
{
	return type == echo ? claims & ECHO_REQUESTS : type == reply ? claims & ECHO_REPLIES : 0;
}

INLINE int claims_port4(__u16 claims, __be32 address, __be16 port, __u8 protocol)
{
	struct service4 key = { .address = address, .port = port, .protocol = protocol };

	if (claims_all(claims, protocol) || claims_upper(claims, protocol, port))
		return 1;
	return claims_some(claims, protocol) && bpf_map_lookup_elem(&SERVICES4, &key);
}

INLINE int claims_port6(__u16 claims, const struct in6_addr *address, __be16 port, __u8 protocol)
{
	struct service6 key = { .address = *address, .port = port, .protocol = protocol };

	if (claims_all(claims, protocol) || claims_upper(claims, protocol, port))
		return 1;
	return claims_some(claims, protocol) && bpf_map_lookup_elem(&SERVICES6, &key);
}

// The packet that an ICMP error quotes: did weir send it?
INLINE int quote_is_ours4(void *start, void *end)
{
	struct iphdr *ip = start;
	struct ports *ports;
	__be32 source;
	__u16 *claims;

	if ((void *)(ip + 1) > end)
		return 1;
	if (ip->version != 4 || ip->ihl < 5)
		return 0;
	source = ip->saddr;
	claims = bpf_map_lookup_elem(&CLAIMS4, &source);
	if (!claims)
		return 0;
	if (ip->frag_off & BE16(0x1fff)) // a later fragment: no ports
		return claims_all(*claims, ip->protocol);
	ports = start + ip->ihl * 4;
	if ((void *)(ports + 1) > end)
		return claims_any(*claims, ip->protocol);
	// What weir sent from a VIP is a reply, from a SNAT address a request.
	if (ip->protocol == IPPROTO_ICMP)
		return claims_echo(*claims, *(__u8 *)ports, ICMP_ECHO_REPLY, ICMP_ECHO);
	return claims_port4(*claims, source, ports->source, ip->protocol);
}

INLINE int packet_is_ours4(void *start, void *end)
{
	struct iphdr *ip = start;
	__be32 destination;
	__u16 *claims;
	void *transport;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return 0;
	destination = ip->daddr;
	claims = bpf_map_lookup_elem(&CLAIMS4, &destination);
	if (!claims)
		return 0;
	if (ip->frag_off & BE16(0x3fff)) // offset or more-fragments
		return claims_any(*claims, ip->protocol);
	transport = start + ip->ihl * 4;
	if (ip->protocol == IPPROTO_ICMP) {
		__u8 *type = transport;

		if (transport + ICMP_HEADER > end)
			return claims_any(*claims, ip->protocol);
		if (claims_echo(*claims, *type, ICMP_ECHO, ICMP_ECHO_REPLY))
			return 1;
		if (*type != ICMP_UNREACHABLE && *type != ICMP_SOURCE_QUENCH && *type != ICMP_TIME_EXCEEDED && *type != ICMP_PARAMETER_PROBLEM)
			return 0;
		return quote_is_ours4(transport + ICMP_HEADER, end);
	}
	if (transport + sizeof(struct ports) > end)
		return claims_any(*claims, ip->protocol);
	return claims_port4(*claims, destination, ((struct ports *)transport)->destination, ip->protocol);
}

// Where a walk over IPv6 extension headers ended.
struct upper {
	__u16 offset; // of the transport header in the frame; 0 when the frame ends before, or the chain is too long
	__u8 protocol;
	__u8 fragment : 1; // this is one fragment of several; protocol is what its fragment header names
	__u8 later : 1; // and not the first: offset is the middle of something
};

union packed_upper {
	struct upper upper;
	__u32 word;
};

// A transport header beyond this is none: frames of a NIC are far shorter.
#define MAX_OFFSET 0x3fff

INLINE void *frame_at(struct xdp_md *context, __u32 offset)
{
	// Never above: it tells the verifier so.
	return (void *)(long)context->data + (offset & (2 * MAX_OFFSET + 1));
}

// A function of its own, not inlined and not static: the verifier looks at it once, not once for each way into it and out of it, which
// together with the walk over a quoted packet was most of what loading cost. Such functions take and return numbers.
__attribute__((noinline)) __u32 walk(struct xdp_md *context, __u32 offset, __u8 protocol)
{
	void *end = (void *)(long)context->data_end;
	union packed_upper found = { .upper = { .protocol = protocol } };

#pragma unroll
	for (int i = 0; i <= EXTENSION_HEADERS; i++) {
		__u8 *header = frame_at(context, offset);

		if (offset > MAX_OFFSET)
			return found.word;
		switch (found.upper.protocol) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			if ((void *)(header + 8) > end)
				return found.word;
			found.upper.protocol = header[0];
			offset += ((__u32)header[1] + 1) * 8;
			break;
		case IPPROTO_FRAGMENT: {
			struct fragment *fragment = (void *)header;

			if ((void *)(fragment + 1) > end)
				return found.word;
			found.upper.protocol = fragment->next;
			offset += sizeof(*fragment);
			// RFC 6946: offset 0 and no more to come is a whole packet, and treated as one.
			if (fragment->offset & BE16(0xfff9)) {
				found.upper.fragment = 1;
				found.upper.later = (fragment->offset & BE16(0xfff8)) != 0;
				found.upper.offset = offset;
				return found.word;
			}
			break;
		}
		default:
			found.upper.offset = offset;
			return found.word;
		}
	}
	return found.word;
}

INLINE int quote_is_ours6(struct xdp_md *context, __u32 offset)
{
	void *end = (void *)(long)context->data_end;
	struct ipv6hdr *ip = frame_at(context, offset);
	union packed_upper found;
	struct in6_addr source;
	struct ports *ports;
	__u16 *claims;

	if ((void *)(ip + 1) > end)
		return 1;
	if (ip->version != 6)
		return 0;
	source = ip->saddr;
	claims = bpf_map_lookup_elem(&CLAIMS6, &source);
	if (!claims)
		return 0;
	found.word = walk(context, offset + sizeof(*ip), ip->nexthdr);
	if (!found.upper.offset)
		return 1;
	if (found.upper.later)
		return claims_all(*claims, found.upper.protocol);
	ports = frame_at(context, found.upper.offset);
	if ((void *)(ports + 1) > end)
		return claims_any(*claims, found.upper.protocol);
	if (found.upper.protocol == IPPROTO_ICMPV6)
		return claims_echo(*claims, *(__u8 *)ports, ICMPV6_ECHO_REPLY, ICMPV6_ECHO);
	return claims_port6(*claims, &source, ports->source, found.upper.protocol);
}

INLINE int packet_is_ours6(struct xdp_md *context, __u32 offset)
{
	void *end = (void *)(long)context->data_end;
	struct ipv6hdr *ip = frame_at(context, offset);
	struct in6_addr destination;
	union packed_upper found;
	struct ports *ports;
	__u16 *claims;
	__u8 *type;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return 0;
	destination = ip->daddr;
	claims = bpf_map_lookup_elem(&CLAIMS6, &destination);
	if (!claims)
		return 0;
	found.word = walk(context, offset + sizeof(*ip), ip->nexthdr);
	// The protocol is not known. Were it TCP, the kernel would reset the connection.
	if (!found.upper.offset)
		return 1;
	if (found.upper.fragment)
		switch (found.upper.protocol) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			// The protocol stands in the first fragment only. Were it TCP, the kernel would reset the connection; so all are ours.
			return 1;
		default:
			return claims_any(*claims, found.upper.protocol);
		}
	if (found.upper.protocol == IPPROTO_ICMPV6) {
		type = frame_at(context, found.upper.offset);
		if ((void *)(type + ICMP_HEADER) > end)
			return claims_any(*claims, found.upper.protocol);
		if (claims_echo(*claims, *type, ICMPV6_ECHO, ICMPV6_ECHO_REPLY))
			return 1;
		// RFC 4443, section 2.1: errors are below 128; unreachable, too big, time exceeded, parameter problem.
		if (*type < 1 || *type > 4)
			return 0;
		return quote_is_ours6(context, found.upper.offset + ICMP_HEADER);
	}
	ports = frame_at(context, found.upper.offset);
	if ((void *)(ports + 1) > end)
		return claims_any(*claims, found.upper.protocol);
	return claims_port6(*claims, &destination, ports->destination, found.upper.protocol);
}

INLINE int frame_is_ours(struct xdp_md *context)
{
	void *start = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	struct ethhdr *ethernet = start;
	__u32 offset = sizeof(*ethernet);
	__be16 type;

	if ((void *)(ethernet + 1) > end)
		return 0;
	// RFC 1812, section 5.3.4: what was sent to all on the link is not forwarded.
	if (ethernet->h_dest[0] & 1)
		return 0;
	type = ethernet->h_proto;
	if (type == BE16(ETH_P_8021Q)) {
		struct vlan *vlan = start + offset;

		if ((void *)(vlan + 1) > end)
			return 0;
		type = vlan->type;
		offset += sizeof(*vlan);
	}
	if (type == BE16(ETH_P_IP))
		return packet_is_ours4(start + offset, end);
	if (type == BE16(ETH_P_IPV6))
		return packet_is_ours6(context, offset);
	return 0;
}

SECTION("xdp") int weir_steer(struct xdp_md *context)
{
	int verdict;

	if (!frame_is_ours(context)) {
		count(PASSED);
		return XDP_PASS;
	}
	// The flags are the verdict where no socket is bound to the queue.
	verdict = bpf_redirect_map(&SOCKETS, context->rx_queue_index, XDP_PASS);
	count(verdict == XDP_REDIRECT ? REDIRECTED : UNSERVED);
	return verdict;
}

char _license[] SECTION("license") = "MIT";
