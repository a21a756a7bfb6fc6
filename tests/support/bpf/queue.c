// Puts packets on a queue of the other side of a veth: all on QUEUE, or by one bit of the port at PORT of the transport
// header (0: source port, 2: destination port). Not the last bit: Linux gives even ports to those who connect.

#include <linux/bpf.h>

static long (*const load_bytes)(const void *skb, unsigned offset, void *to, unsigned length) = (void *)BPF_FUNC_skb_load_bytes;

__attribute__((section("queue"), used)) int map_queue(struct __sk_buff *skb)
{
#ifdef QUEUE
    unsigned queue = QUEUE;
#else
    // Without options and extension headers the transport header follows 20 or 40 bytes of IP.
    unsigned transport = skb->protocol == __builtin_bswap16(0x86dd) ? 14 + 40 : 14 + 20;
    unsigned char port[2] = { 0, 0 };
    load_bytes(skb, transport + PORT, port, sizeof(port));
    unsigned queue = port[1] >> 1 & 1;
#endif
    // The kernel takes 0 as "not set": queue n is n + 1.
    skb->queue_mapping = queue + 1;
    return 0;
}

char license_of_program[] __attribute__((section("license"), used)) = "GPL";
