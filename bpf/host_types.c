/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Never linked, never loaded: compiled for its BTF alone. It names the kernel and
 * libbpf types that user space passes by address, so that no offset of theirs is
 * typed by hand. scripts/generate-codecs.ts turns them into
 * src/maps/generated/host.ts.
 *
 * Constants that the headers keep in defines or unnamed enums stand here in named
 * enums, because BTF carries only those. HOST_ is cut off their names.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/version.h>
#include <net/if.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

/* The headers that the generated file was made from. */
enum host_headers {
	HOST_HEADERS_LIBBPF_MAJOR = LIBBPF_MAJOR_VERSION,
	HOST_HEADERS_LIBBPF_MINOR = LIBBPF_MINOR_VERSION,
	HOST_HEADERS_LINUX_MAJOR = LINUX_VERSION_MAJOR,
	HOST_HEADERS_LINUX_MINOR = LINUX_VERSION_PATCHLEVEL,
};

enum host_map_update_flag {
	HOST_MAP_UPDATE_ANY = BPF_ANY,
	HOST_MAP_UPDATE_NOEXIST = BPF_NOEXIST,
	HOST_MAP_UPDATE_EXIST = BPF_EXIST,
};

enum host_map_flag {
	HOST_MAP_NO_PREALLOC = BPF_F_NO_PREALLOC,
	HOST_MAP_NO_COMMON_LRU = BPF_F_NO_COMMON_LRU,
	HOST_MAP_NUMA_NODE = BPF_F_NUMA_NODE,
	HOST_MAP_RDONLY = BPF_F_RDONLY,
	HOST_MAP_RDONLY_PROG = BPF_F_RDONLY_PROG,
	HOST_MAP_MMAPABLE = BPF_F_MMAPABLE,
	HOST_MAP_INNER_MAP = BPF_F_INNER_MAP,
};

enum host_prog_flag {
	HOST_PROG_XDP_HAS_FRAGS = BPF_F_XDP_HAS_FRAGS,
};

enum host_test_run_flag {
	HOST_TEST_RUN_XDP_LIVE_FRAMES = BPF_F_TEST_XDP_LIVE_FRAMES,
};

enum host_xdp_flag {
	HOST_XDP_UPDATE_IF_NOEXIST = XDP_FLAGS_UPDATE_IF_NOEXIST,
	HOST_XDP_SKB_MODE = XDP_FLAGS_SKB_MODE,
	HOST_XDP_DRV_MODE = XDP_FLAGS_DRV_MODE,
	HOST_XDP_HW_MODE = XDP_FLAGS_HW_MODE,
	HOST_XDP_REPLACE = XDP_FLAGS_REPLACE,
};

enum host_xdp_attached {
	HOST_XDP_ATTACHED_NONE = XDP_ATTACHED_NONE,
	HOST_XDP_ATTACHED_DRV = XDP_ATTACHED_DRV,
	HOST_XDP_ATTACHED_SKB = XDP_ATTACHED_SKB,
	HOST_XDP_ATTACHED_HW = XDP_ATTACHED_HW,
	HOST_XDP_ATTACHED_MULTI = XDP_ATTACHED_MULTI,
};

enum host_ethtool_command {
	HOST_ETHTOOL_GDRVINFO = ETHTOOL_GDRVINFO,
	HOST_ETHTOOL_GRINGPARAM = ETHTOOL_GRINGPARAM,
	HOST_ETHTOOL_SRINGPARAM = ETHTOOL_SRINGPARAM,
	HOST_ETHTOOL_GCHANNELS = ETHTOOL_GCHANNELS,
	HOST_ETHTOOL_SCHANNELS = ETHTOOL_SCHANNELS,
	HOST_ETHTOOL_GCOALESCE = ETHTOOL_GCOALESCE,
	HOST_ETHTOOL_SCOALESCE = ETHTOOL_SCOALESCE,
	HOST_ETHTOOL_GGRO = ETHTOOL_GGRO,
	HOST_ETHTOOL_SGRO = ETHTOOL_SGRO,
	HOST_ETHTOOL_GTSO = ETHTOOL_GTSO,
	HOST_ETHTOOL_GGSO = ETHTOOL_GGSO,
	HOST_ETHTOOL_GFLAGS = ETHTOOL_GFLAGS,
	HOST_ETHTOOL_GSSET_INFO = ETHTOOL_GSSET_INFO,
	HOST_ETHTOOL_GSTRINGS = ETHTOOL_GSTRINGS,
	HOST_ETHTOOL_GSTATS = ETHTOOL_GSTATS,
	HOST_ETHTOOL_GFEATURES = ETHTOOL_GFEATURES,
};

enum host_ioctl {
	HOST_IOCTL_SIOCETHTOOL = SIOCETHTOOL,
	HOST_IOCTL_SIOCGIFFLAGS = SIOCGIFFLAGS,
	HOST_IOCTL_SIOCGIFMTU = SIOCGIFMTU,
};

enum host_libc {
	HOST_AF_INET = AF_INET,
	HOST_AF_UNIX = AF_UNIX,
	HOST_AF_NETLINK = AF_NETLINK,
	HOST_SOCK_DGRAM = SOCK_DGRAM,
	HOST_SOCK_RAW = SOCK_RAW,
	HOST_SOCK_CLOEXEC = SOCK_CLOEXEC,
	HOST_SOL_SOCKET = SOL_SOCKET,
	HOST_SO_ACCEPTCONN = SO_ACCEPTCONN,
	HOST_SO_PEERCRED = SO_PEERCRED,
	HOST_SO_PEERGROUPS = SO_PEERGROUPS,
	HOST_MSG_DONTWAIT = MSG_DONTWAIT,
	HOST_MSG_NOSIGNAL = MSG_NOSIGNAL,
	HOST_MSG_TRUNC = MSG_TRUNC,
	HOST_O_RDONLY = O_RDONLY,
	HOST_O_RDWR = O_RDWR,
	HOST_O_CREAT = O_CREAT,
	HOST_O_CLOEXEC = O_CLOEXEC,
	HOST_PROT_READ = PROT_READ,
	HOST_PROT_WRITE = PROT_WRITE,
	HOST_MAP_SHARED = MAP_SHARED,
	HOST_MAP_PRIVATE = MAP_PRIVATE,
	HOST_MAP_ANONYMOUS = MAP_ANONYMOUS,
	HOST_LOCK_SH = LOCK_SH,
	HOST_LOCK_EX = LOCK_EX,
	HOST_LOCK_NB = LOCK_NB,
	HOST_LOCK_UN = LOCK_UN,
	HOST_CLONE_NEWNET = CLONE_NEWNET,
	HOST_CLOCK_REALTIME = CLOCK_REALTIME,
	HOST_CLOCK_MONOTONIC = CLOCK_MONOTONIC,
	HOST_CLOCK_BOOTTIME = CLOCK_BOOTTIME,
	HOST_CLOCK_MONOTONIC_COARSE = CLOCK_MONOTONIC_COARSE,
};

enum host_netlink {
	HOST_NETLINK_ROUTE = NETLINK_ROUTE,
	HOST_NETLINK_ALIGN_TO = NLMSG_ALIGNTO,
	HOST_NETLINK_REQUEST = NLM_F_REQUEST,
	HOST_NETLINK_DUMP = NLM_F_DUMP,
	HOST_NETLINK_DUMP_INTERRUPTED = NLM_F_DUMP_INTR,
	HOST_NETLINK_DONE = NLMSG_DONE,
	HOST_NETLINK_ERROR = NLMSG_ERROR,
	HOST_NETLINK_GET_LINK = RTM_GETLINK,
	HOST_NETLINK_NEW_LINK = RTM_NEWLINK,
	HOST_NETLINK_LINK_ADDRESS = IFLA_ADDRESS,
	HOST_NETLINK_LINK_NAME = IFLA_IFNAME,
	HOST_NETLINK_LINK_EXTRA_MASK = IFLA_EXT_MASK,
	HOST_NETLINK_SKIP_STATS = RTEXT_FILTER_SKIP_STATS,
};

#define SHOW_STRUCT(name) struct name show_struct_##name
#define SHOW_ENUM(name) enum name show_enum_##name

/* libbpf's extensible options */
SHOW_STRUCT(bpf_link_create_opts);
SHOW_STRUCT(bpf_link_update_opts);
SHOW_STRUCT(bpf_map_batch_opts);
SHOW_STRUCT(bpf_map_create_opts);
SHOW_STRUCT(bpf_object_open_opts);
SHOW_STRUCT(bpf_tc_hook);
SHOW_STRUCT(bpf_tc_opts);
SHOW_STRUCT(bpf_test_run_opts);
SHOW_STRUCT(bpf_xdp_attach_opts);
SHOW_STRUCT(bpf_xdp_query_opts);

/* what the kernel answers and takes */
SHOW_STRUCT(__sk_buff);
SHOW_STRUCT(bpf_btf_info);
SHOW_STRUCT(bpf_cpumap_val);
SHOW_STRUCT(bpf_link_info);
SHOW_STRUCT(bpf_map_info);
SHOW_STRUCT(bpf_prog_info);
SHOW_STRUCT(xdp_md);
SHOW_STRUCT(ethtool_channels);
SHOW_STRUCT(ethtool_coalesce);
SHOW_STRUCT(ethtool_drvinfo);
SHOW_STRUCT(ethtool_ringparam);
SHOW_STRUCT(ethtool_value);
SHOW_STRUCT(ifinfomsg);
SHOW_STRUCT(ifreq);
SHOW_STRUCT(nlmsghdr);
SHOW_STRUCT(rtattr);
SHOW_STRUCT(sockaddr_un);
SHOW_STRUCT(timespec);
SHOW_STRUCT(ucred);

SHOW_ENUM(bpf_attach_type);
SHOW_ENUM(bpf_link_type);
SHOW_ENUM(bpf_map_type);
SHOW_ENUM(bpf_prog_type);
SHOW_ENUM(bpf_stats_type);
SHOW_ENUM(bpf_tc_attach_point);
SHOW_ENUM(xdp_action);
SHOW_ENUM(host_ethtool_command);
SHOW_ENUM(host_headers);
SHOW_ENUM(host_ioctl);
SHOW_ENUM(host_libc);
SHOW_ENUM(host_map_flag);
SHOW_ENUM(host_map_update_flag);
SHOW_ENUM(host_netlink);
SHOW_ENUM(host_prog_flag);
SHOW_ENUM(host_test_run_flag);
SHOW_ENUM(host_xdp_attached);
SHOW_ENUM(host_xdp_flag);
