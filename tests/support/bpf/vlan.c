// An access port: what leaves gets the tag VLAN, what comes in loses its tag.

#include <linux/bpf.h>

static long (*const push_tag)(struct __sk_buff *skb, unsigned short protocol, unsigned short tag) = (void *)BPF_FUNC_skb_vlan_push;
static long (*const pop_tag)(struct __sk_buff *skb) = (void *)BPF_FUNC_skb_vlan_pop;

__attribute__((section("push"), used)) int push_vlan(struct __sk_buff *skb)
{
    push_tag(skb, __builtin_bswap16(0x8100), VLAN);
    return 0;
}

__attribute__((section("pop"), used)) int pop_vlan(struct __sk_buff *skb)
{
    pop_tag(skb);
    return 0;
}

char license_of_program[] __attribute__((section("license"), used)) = "GPL";
