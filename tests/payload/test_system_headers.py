"""`Struct.from_c` reads structs of the system's headers, and gcc lays them out alike.

They are those of libc6-dev and linux-libc-dev, without which gcc does not compile a program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from gcc_layout import asserted, compile_all

from ipckit import Struct
from ipckit.errors import InvalidSource

if TYPE_CHECKING:
    from pathlib import Path

# A header and its structs. A star is for one with a pointer, which needs opaque=True. A colon is
# for a typedef without a tag.
STRUCTS = """
aio.h aiocb* aioinit
arpa/inet.h in_addr in6_addr sockaddr_in sockaddr_in6 ip_mreq ip_mreqn group_req group_filter
arpa/tftp.h tftphdr
dirent.h dirent dirent64
elf.h Elf32_Ehdr: Elf64_Ehdr: Elf64_Shdr: Elf64_Sym: Elf64_Rela: Elf64_Phdr: Elf64_Dyn:
fstab.h fstab*
glob.h glob_t*:
grp.h group*
ifaddrs.h ifaddrs*
locale.h lconv*
mntent.h mntent*
mqueue.h mq_attr
net/if.h if_nameindex* ifmap ifreq* ifconf*
net/if_arp.h arphdr arpreq arpreq_old
net/ethernet.h ether_addr ether_header
net/route.h rtentry* in6_rtmsg
netdb.h hostent* servent* protoent* addrinfo*
netinet/icmp6.h icmp6_filter icmp6_hdr nd_router_advert nd_neighbor_solicit nd_opt_hdr nd_opt_mtu
netinet/icmp6.h nd_opt_prefix_info mld_hdr icmp6_router_renum rr_pco_match
netinet/igmp.h igmp
netinet/ip.h timestamp iphdr ip ip_timestamp
netinet/ip6.h ip6_hdr ip6_ext ip6_rthdr ip6_frag ip6_opt_jumbo
netinet/ip_icmp.h icmphdr icmp
netinet/tcp.h tcphdr tcp_info tcp_md5sig
netinet/udp.h udphdr
poll.h pollfd
pwd.h passwd*
regex.h re_pattern_buffer* regmatch_t:
sched.h sched_param
semaphore.h sem_t:
shadow.h spwd*
signal.h sigaction* siginfo_t*: sigval* sigevent* stack_t*:
sys/acct.h acct acct_v3
sys/epoll.h epoll_event*
sys/inotify.h inotify_event
sys/ipc.h ipc_perm
sys/msg.h msqid_ds msginfo msgbuf
sys/mtio.h mtop mtget mtpos
sys/procfs.h elf_prstatus elf_prpsinfo
sys/quota.h dqblk
sys/resource.h rlimit rlimit64 rusage
sys/sem.h semid_ds seminfo sembuf
sys/shm.h shmid_ds shminfo shm_info
sys/signalfd.h signalfd_siginfo
sys/socket.h sockaddr sockaddr_storage msghdr* cmsghdr linger ucred mmsghdr*
sys/stat.h stat stat64 statx statx_timestamp
sys/statfs.h statfs statfs64
sys/statvfs.h statvfs statvfs64
sys/sysinfo.h sysinfo
sys/time.h timeval itimerval timezone
sys/times.h tms
sys/timerfd.h itimerspec
sys/timex.h timex ntptimeval
sys/ucontext.h ucontext_t*: mcontext_t*:
sys/uio.h iovec*
sys/un.h sockaddr_un
sys/user.h user* user_regs_struct user_fpregs_struct
sys/utsname.h utsname
sys/vfs.h statfs
sys/ioctl.h winsize
termios.h termios
time.h tm* timespec itimerspec
ucontext.h ucontext_t*:
utime.h utimbuf
utmp.h utmp lastlog exit_status
utmpx.h utmpx
wordexp.h wordexp_t*:
asm/sigcontext.h sigcontext*
asm/stat.h stat
asm/termbits.h termios termios2 ktermios
linux/audit.h audit_status audit_rule_data
linux/bpf.h bpf_insn bpf_prog_info bpf_map_info xdp_md
linux/can.h can_frame canfd_frame sockaddr_can can_filter
linux/capability.h __user_cap_header_struct __user_cap_data_struct vfs_cap_data
linux/cdrom.h cdrom_msf cdrom_tochdr cdrom_subchnl cdrom_read* dvd_layer
linux/dm-ioctl.h dm_ioctl dm_target_spec dm_name_list
linux/elf.h elf64_hdr elf64_phdr elf64_note
linux/ethtool.h ethtool_cmd ethtool_drvinfo ethtool_regs ethtool_stats ethtool_tcpip4_spec
linux/fb.h fb_fix_screeninfo fb_var_screeninfo fb_cmap* fb_image*
linux/fiemap.h fiemap fiemap_extent
linux/filter.h sock_filter sock_fprog*
linux/fs.h file_clone_range fstrim_range fsxattr
linux/fuse.h fuse_attr fuse_entry_out fuse_in_header fuse_out_header fuse_dirent fuse_init_in
linux/genetlink.h genlmsghdr
linux/gpio.h gpiochip_info gpioevent_data
linux/hdreg.h hd_geometry hd_driveid ide_task_request_s
linux/hidraw.h hidraw_devinfo
linux/i2c.h i2c_msg*
linux/icmp.h icmphdr
linux/if_ether.h ethhdr
linux/if_link.h rtnl_link_stats rtnl_link_stats64 ifla_cacheinfo
linux/if_packet.h sockaddr_ll tpacket_hdr tpacket3_hdr tpacket_block_desc tpacket_req3
linux/if_tun.h tun_pi tun_filter
linux/inet_diag.h inet_diag_req_v2 inet_diag_msg
linux/input.h input_event input_id input_absinfo ff_effect* ff_condition_effect
linux/io_uring.h io_uring_sqe io_uring_cqe io_uring_params
linux/ip.h iphdr ip_auth_hdr
linux/joystick.h js_event js_corr
linux/kvm.h kvm_run kvm_regs kvm_userspace_memory_region kvm_dirty_log*
linux/loop.h loop_info loop_info64
linux/media.h media_device_info media_entity_desc
linux/netlink.h sockaddr_nl nlmsghdr nlmsgerr nlattr
linux/perf_event.h perf_event_attr perf_event_header perf_branch_entry
linux/ptp_clock.h ptp_clock_caps
linux/random.h rand_pool_info
linux/rtc.h rtc_time rtc_wkalrm
linux/rtnetlink.h rtmsg ifinfomsg rtattr rta_cacheinfo tcmsg
linux/seccomp.h seccomp_data seccomp_notif
linux/spi/spidev.h spi_ioc_transfer
linux/taskstats.h taskstats
linux/uinput.h uinput_user_dev uinput_setup
linux/usb/ch9.h usb_ctrlrequest usb_device_descriptor usb_endpoint_descriptor
linux/userfaultfd.h uffd_msg uffdio_copy
linux/videodev2.h v4l2_capability v4l2_pix_format v4l2_buffer*
linux/virtio_net.h virtio_net_config virtio_net_hdr
linux/vm_sockets.h sockaddr_vm
linux/vt.h vt_mode vt_stat
linux/watchdog.h watchdog_info
mtd/mtd-abi.h erase_info_user mtd_info_user
sound/asound.h snd_pcm_info snd_ctl_card_info
"""
AT_LEAST = 200  # of the 280 that a current Linux has


def source(header: str) -> str:
    return f"#define _GNU_SOURCE\n#include <stddef.h>\n#include <{header}>\n"


def wanted(line: str) -> list[tuple[str, str, bool]]:
    """The header, the name and whether it is opaque, of each struct of a line."""
    header, *names = line.split()
    found = []
    for each in names:
        name = each.rstrip("*:")
        kind = "" if each.endswith(":") else "union " if name == "sigval" else "struct "
        found.append((header, kind + name, "*" in each))
    return found


@pytest.mark.soak
def test_gcc_lays_out_structs_of_system_headers_alike(tmp_path: Path) -> None:
    checked = 0
    sources: list[Path] = []
    for number, line in enumerate(STRUCTS.strip().splitlines()):
        statements: list[str] = []
        for header, name, opaque in wanted(line):
            text = source(header)
            try:
                struct: Any = Struct.from_c(text, name, opaque=opaque)
            except InvalidSource as error:
                # An older header does not have it, or the header is not installed.
                if "declares no" not in str(error) and "not found" not in str(error):
                    raise
                continue
            if opaque:
                with pytest.raises(InvalidSource, match=r"opaque=True \(--opaque\)"):
                    Struct.from_c(text, name)
            checked += 1
            statements += asserted(struct, name)
        if statements:
            sources.append(tmp_path / f"header{number}.c")
            sources[-1].write_text("\n".join([source(line.split()[0]), *statements]))
    assert checked >= AT_LEAST
    compile_all(sources)
