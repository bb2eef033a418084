/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private error codes. Every function that can fail returns 0 or the negative
 * of one of these (never a bare errno); each code is raised in one place, or
 * for one reason, and maps to the errno that the edges (fuse/, the tools,
 * bcfs_errno()) report. Numbers are stable and never reused: the hundreds
 * digit names the layer.
 *
 * x(name, number, errno, text)
 */
#ifndef BCFS_UTIL_ERRCODE_H
#define BCFS_UTIL_ERRCODE_H

#include <stdbool.h>

#include <errno.h>

#define BCFS_ERR_BASE 10000

/* One row a line; clang-format would fold the tables. */
/* clang-format off */

/* util, env: 100.. */
#define BCFS_ERRCODES_UTIL(x)                                                                      \
	x(nomem, 100, ENOMEM, "out of memory")                                                     \
	x(invalid_option, 101, EINVAL, "unknown or malformed option")                              \
	x(thread_start, 110, EAGAIN, "a thread could not be started")                              \
	x(timedout, 111, ETIMEDOUT, "timed out")                                                   \
	x(sim_deadlock, 112, EDEADLK, "simulation: every fiber waits")                             \
	x(sim_time_limit, 113, ETIME, "simulation: the time limit has passed")                     \
	x(random_source, 114, EIO, "the kernel gives no random numbers")                           \
	x(sim_no_progress, 115, ETIME, "simulation: goes round without end")

/* codec: 200.. */
#define BCFS_ERRCODES_CODEC(x)                                                                     \
	x(codec_unknown, 200, EINVAL, "unknown codec")                                             \
	x(codec_unsupported, 201, EOPNOTSUPP, "this codec is not supported by this build")         \
	x(csum_mismatch, 202, EIO, "checksum mismatch")                                            \
	x(aead_mismatch, 203, EIO, "authentication tag mismatch")                                  \
	x(compress_incompressible, 204, ENOSPC, "the data does not compress")                      \
	x(decompress, 205, EIO, "compressed data is malformed")                                    \
	x(codec_level, 206, EINVAL, "no such compression level")                                   \
	x(keyring_full, 207, ENOSPC, "no room for another generation of keys")

/* dev: 300.. */
#define BCFS_ERRCODES_DEV(x)                                                                       \
	x(dev_read, 300, EIO, "read error")                                                        \
	x(dev_write, 301, EIO, "write error")                                                      \
	x(dev_flush, 302, EIO, "flush error")                                                      \
	x(dev_discard, 303, EIO, "discard error")                                                  \
	x(dev_bounds, 304, EINVAL, "request beyond the end of the device")                         \
	x(dev_unaligned, 305, EINVAL, "request not aligned to the device's blocks")                \
	x(dev_write_ro, 306, EROFS, "write to a device opened read-only")                          \
	x(dev_truncated, 307, EIO, "read past the end of a truncated image")                       \
	x(dev_gone, 308, EIO, "the device is gone")                                                \
	x(dev_no_discard, 309, EOPNOTSUPP, "the device cannot discard")                            \
	x(dev_not_found, 310, ENOENT, "no such file or device")                                    \
	x(dev_is_dir, 311, EISDIR, "is a directory")                                               \
	x(dev_permission, 312, EACCES, "permission denied")                                        \
	x(dev_in_use, 313, EBUSY, "the device is in use")                                          \
	x(dev_mounted, 314, EBUSY, "the device is mounted")                                        \
	x(dev_not_block, 315, ENOTBLK, "neither a file nor a block device")                        \
	x(dev_media_ro, 316, EROFS, "the device is read-only")                                     \
	x(dev_empty, 317, EINVAL, "the device has no size")                                        \
	x(dev_open, 318, EIO, "the device cannot be opened")                                       \
	x(dev_no_uring, 319, ENOSYS, "io_uring does not work here")                                \
	x(dev_bad_opts, 320, EINVAL, "contradicting options")                                      \
	x(dev_image_io, 321, EIO, "the image file cannot be read or written")                      \
	x(dev_nospc, 322, ENOSPC, "no space for the image on its filesystem")                      \
	x(dev_image_make, 323, EIO, "the image file cannot be made")                               \
	x(dev_not_image, 324, EINVAL, "a size is for image files only")                            \
	x(dev_write_log, 325, EIO, "the write log cannot be written")                              \
	x(dev_absent, 326, ENODEV, "there is no device")

/* sb: 400.. */
#define BCFS_ERRCODES_SB(x)                                                                        \
	x(sb_not_bcfs, 400, EINVAL, "not a bcfs filesystem")                                       \
	x(sb_version, 401, EOPNOTSUPP, "the filesystem's version is newer than this program")      \
	x(sb_feature_incompat, 402, EOPNOTSUPP,                                                    \
	  "the filesystem uses a feature this program does not know")                              \
	x(sb_truncated, 403, EINVAL, "the device is smaller than the superblock says")             \
	x(sb_all_damaged, 404, EUCLEAN, "all superblock copies are damaged")                       \
	x(sb_block_size_logical, 405, EINVAL,                                                      \
	  "the block size is smaller than the device's logical sector")                            \
	x(sb_read, 406, EIO, "no superblock copy could be read")                                   \
	x(sb_write, 407, EIO, "too few superblock copies could be written")                        \
	x(sb_full, 408, ENOSPC, "no room left in the superblock")                                  \
	x(sb_dev_too_small, 409, ENOSPC, "the device is too small")                                \
	x(sb_write_ro, 410, EROFS, "the superblock may not be written")                            \
	x(sb_version_old, 411, EOPNOTSUPP, "the filesystem's version is older than this program") \
	x(sb_invalid_csum, 420, EUCLEAN, "superblock: wrong checksum")                             \
	x(sb_invalid_csum_type, 421, EUCLEAN, "superblock: unknown checksum type")                 \
	x(sb_invalid_offset, 422, EUCLEAN, "superblock: a copy in the wrong place")                \
	x(sb_invalid_version, 423, EUCLEAN, "superblock: invalid version")                         \
	x(sb_invalid_layout, 424, EUCLEAN, "superblock: invalid layout")                           \
	x(sb_invalid_size, 425, EUCLEAN, "superblock: larger than its area")                       \
	x(sb_invalid_uuid, 426, EUCLEAN, "superblock: no uuid")                                    \
	x(sb_invalid_block_size, 427, EUCLEAN, "superblock: invalid block size")                   \
	x(sb_invalid_node_size, 428, EUCLEAN, "superblock: invalid btree node size")               \
	x(sb_invalid_dev_idx, 429, EUCLEAN, "superblock: invalid device number")                   \
	x(sb_invalid_option, 430, EUCLEAN, "superblock: invalid option default")                   \
	x(sb_invalid_seq, 431, EUCLEAN, "superblock: invalid sequence number")                     \
	x(sb_invalid_field, 432, EUCLEAN, "superblock: a field with wrong bounds")                 \
	x(sb_invalid_field_twice, 433, EUCLEAN, "superblock: a field that is there twice")         \
	x(sb_invalid_members, 434, EUCLEAN, "superblock: invalid members field")                   \
	x(sb_invalid_journal, 435, EUCLEAN, "superblock: invalid journal field")                   \
	x(sb_invalid_crypt, 436, EUCLEAN, "superblock: invalid crypt field")                       \
	x(sb_invalid_clean, 437, EUCLEAN, "superblock: invalid clean field")                       \
	x(sb_invalid_blacklist, 438, EUCLEAN, "superblock: invalid blacklist field")               \
	x(sb_invalid_errors, 439, EUCLEAN, "superblock: invalid errors field")                     \
	x(sb_invalid_labels, 440, EUCLEAN, "superblock: invalid labels field")                     \
	x(sb_invalid_downgrade, 441, EUCLEAN, "superblock: invalid downgrade field")               \
	x(sb_invalid_params, 450, EINVAL, "invalid parameters for a new filesystem")               \
	x(sb_feature_unknown, 451, EINVAL, "no such feature")                                      \
	x(sb_crypt_none, 460, EINVAL, "the filesystem is not encrypted")                           \
	x(sb_crypt_locked, 461, ENOKEY, "the filesystem is encrypted, and its key is not at hand")   \
	x(sb_crypt_wrong_secret, 462, EKEYREJECTED,                                                \
	  "no key slot opens with this passphrase or key file")                                    \
	x(sb_crypt_tampered, 463, EUCLEAN,                                                         \
	  "the superblock was tampered with: it is not what the key authenticated")                \
	x(sb_crypt_kdf_memory, 464, ENOMEM, "not enough memory to derive a key from the passphrase") \
	x(sb_crypt_kdf_cost, 465, EINVAL, "cost of a passphrase out of bounds")                    \
	x(sb_crypt_secret_len, 466, EINVAL, "a passphrase or key file that is too short or too long") \
	x(sb_crypt_slots_full, 467, ENOSPC, "every key slot is in use")                            \
	x(sb_crypt_no_slot, 468, ENOENT, "no such key slot")                                       \
	x(sb_crypt_last_slot, 469, EPERM, "the last key slot cannot be removed")                   \
	x(sb_crypt_slot_left, 470, EPERM,                                                          \
	  "a key slot would be lost: its passphrase or key file was not given")                    \
	x(sb_crypt_gens, 471, EBUSY,                                                               \
	  "too many generations of keys in use: earlier ones must be replaced first")              \
	x(sb_crypt_clean, 472, EUCLEAN, "the clean section was tampered with, or is damaged")      \
	x(sb_crypt_changed, 473, EAGAIN, "the key slots were changed meanwhile: try again")         \
	x(sb_crypt_gens_mount, 474, ENOBUFS,                                                       \
	  "too many generations of keys since the mount: unmount and mount it again first")        \
	x(sb_crypt_gen_last, 475, EOVERFLOW,                                                       \
	  "no more generations of keys are possible: copy everything to a new filesystem")         \
	x(sb_crypt_kdf_ram, 476, ENOMEM,                                                           \
	  "the passphrase wants more than half of the memory of this machine")                     \
	x(sb_crypt_copy_old, 477, EIO,                                                             \
	  "changed, but a copy of the superblock that cannot be written may have the old key slots")

/* journal: 500.. */
#define BCFS_ERRCODES_JOURNAL(x)                                                                   \
	x(journal_full, 500, EAGAIN, "the journal has no room")                                    \
	x(journal_shutdown, 501, EROFS, "the journal is shut down after an error")                 \
	x(journal_flush_later, 519, EAGAIN, "a later entry of the journal can be flushed")           \
	x(journal_would_block, 502, EAGAIN, "the journal would have to be waited for")             \
	x(journal_res_too_big, 503, E2BIG, "larger than any journal entry")                        \
	x(journal_damaged, 504, EUCLEAN, "the journal is damaged")                                 \
	x(journal_empty, 505, EUCLEAN, "the journal holds no valid entry")                         \
	x(journal_invalid, 506, EUCLEAN, "invalid journal entry")                                  \
	x(journal_csum, 507, EUCLEAN, "journal entry with a wrong checksum")                       \
	x(journal_geometry, 508, EINVAL, "the journal's size or buckets do not fit the device")

/* btree: 600.. (600-649 are transaction restarts, never seen outside the core) */
#define BCFS_ERRCODES_BTREE(x)                                                                     \
	x(restart_relock, 600, EINTR, "transaction restart: a lock could not be retaken")          \
	x(restart_upgrade, 601, EINTR, "transaction restart: a lock could not be upgraded")        \
	x(restart_lock, 602, EINTR, "transaction restart: a lock was waited for")                  \
	x(restart_split, 603, EINTR, "transaction restart: a node was split")                      \
	x(restart_io, 604, EINTR, "transaction restart: a node was read")                          \
	x(restart_journal, 605, EINTR, "transaction restart: the journal was waited for")          \
	x(restart_mem, 606, EINTR, "transaction restart: transaction memory grew")                 \
	x(restart_injected, 607, EINTR, "transaction restart: injected")                           \
	x(restart_nested, 608, EINTR, "transaction restart: a nested transaction restarted")       \
	x(btree_key_too_big, 650, E2BIG, "key too big")                                            \
	x(btree_key_not_found, 651, ENOENT, "no such key")                                         \
	x(btree_bad_extent, 652, EINVAL, "an extent of no length")                                 \
	x(btree_no_such_level, 653, ENOENT, "the btree has no such level")                         \
	x(btree_topology, 654, EUCLEAN, "an interior btree node lacks a child")                    \
	x(btree_node_exists, 655, EEXIST, "the node is in the cache already")                      \
	x(btree_node_bad_ptr, 656, EUCLEAN, "a pointer to a btree node that cannot be")            \
	x(btree_node_magic, 657, EUCLEAN, "no btree node where a pointer leads")                   \
	x(btree_node_identity, 658, EUCLEAN, "a node of another btree or level")                   \
	x(btree_node_range, 659, EUCLEAN, "a btree node covers another range than its pointer")    \
	x(btree_node_wrong_seq, 660, EUCLEAN, "a btree node is shorter than its pointer says")     \
	x(btree_node_bset_bounds, 661, EUCLEAN, "a btree node's keys cross its end")               \
	x(btree_node_csum, 662, EIO, "btree node checksum error")                                  \
	x(btree_node_version, 663, EUCLEAN, "a btree node of a newer version")                     \
	x(btree_node_key_range, 664, EUCLEAN, "a key outside its btree node")                      \
	x(btree_node_too_small, 665, EUCLEAN, "a transaction too big for a btree node")            \
	x(btree_need_room, 666, EAGAIN, "another btree node must be split first")                  \
	x(btree_need_rewrite, 667, EAGAIN, "nothing may be appended to the node")                  \
	x(btree_write_in_flight, 668, EBUSY, "the node is being written")                          \
	x(btree_halted, 669, EROFS, "the filesystem was stopped after an error")                   \
	x(commit_would_wait, 670, EAGAIN, "a commit would have to wait for room")

/* btree: the rest: 680.. */
#define BCFS_ERRCODES_BTREE2(x)                                                                    \
	x(btree_no_progress, 680, EIO, "a btree node could not be split or merged")                \
	x(bkey_unknown_type, 681, EUCLEAN, "a key of unknown type")                                \
	x(bkey_val_size, 682, EUCLEAN, "a key's value is too short for its type")                  \
	x(bkey_bad_type, 683, EUCLEAN, "a key of a type that does not belong there")               \
	x(bkey_bad_size, 684, EUCLEAN, "a key with a size it cannot have")                         \
	x(bkey_bad_snapshot, 685, EUCLEAN, "a key with a snapshot it cannot have")                 \
	x(btree_root_bad, 686, EUCLEAN, "an invalid btree root")                                   \
	x(btree_space_in_use, 687, EUCLEAN, "space given out as free holds a btree node")

/* btree: keys and bsets: 670.. */
#define BCFS_ERRCODES_BSET(x)                                                                      \
	x(bkey_format_invalid, 670, EUCLEAN, "invalid key format in a btree node")                 \
	x(bset_key_size, 671, EUCLEAN, "a key's size does not fit its set of keys")                \
	x(bset_key_format, 672, EUCLEAN, "a key of unknown format in a btree node")                \
	x(bset_key_flags, 673, EUCLEAN, "a key with flags that belong in memory only")             \
	x(bset_unsorted, 674, EUCLEAN, "keys out of order in a btree node")                        \
	x(bset_too_big, 675, EUCLEAN, "more keys than a btree node holds")                         \
	x(bset_corrupt, 676, EUCLEAN, "a btree node's keys in memory break an invariant")

/* alloc: 700.. */
#define BCFS_ERRCODES_ALLOC(x)                                                                     \
	x(nospc, 700, ENOSPC, "no space left on device")                                           \
	x(alloc_geometry, 701, EINVAL, "sizes of blocks, nodes and buckets do not fit together")   \
	x(alloc_ptr_device, 710, EUCLEAN, "a pointer to a device that is not there")               \
	x(alloc_ptr_bounds, 711, EUCLEAN, "a pointer out of its device or over a bucket's end")    \
	x(alloc_ptr_stale, 712, EUCLEAN, "a pointer whose generation is not its bucket's")         \
	x(alloc_ptr_state, 713, EUCLEAN, "a pointer into a bucket that cannot hold it")            \
	x(alloc_sectors_underflow, 714, EUCLEAN, "a bucket counts fewer sectors than its keys hold")\
	x(alloc_backpointer_missing, 715, EUCLEAN, "a pointer without its backpointer")            \
	x(alloc_key_invalid, 720, EUCLEAN, "invalid alloc key")                                    \
	x(alloc_backpointer_invalid, 721, EUCLEAN, "invalid backpointer")                          \
	x(alloc_lru_invalid, 722, EUCLEAN, "invalid LRU entry")                                    \
	x(alloc_accounting_invalid, 723, EUCLEAN, "invalid accounting key")                        \
	x(alloc_bucket_gens_invalid, 724, EUCLEAN, "invalid generations key")                      \
	x(alloc_btree_ptr_invalid, 725, EUCLEAN, "invalid pointer to a btree node")                \
	x(alloc_run_invalid, 726, EUCLEAN, "invalid run of free buckets")                          \
	x(extent_invalid_entry, 730, EUCLEAN, "extent with a malformed entry")                     \
	x(extent_invalid_crc, 731, EUCLEAN, "extent with an invalid encoding")                     \
	x(extent_invalid_ptr, 732, EUCLEAN, "extent with an invalid pointer")

/* data: 800.. */
#define BCFS_ERRCODES_DATA(x)                                                                      \
	x(data_csum, 800, EIO, "data checksum error")                                              \
	x(data_no_data, 801, ENXIO, "no data behind the offset")                                   \
	x(data_lost, 802, EIO, "the data was lost before")                                         \
	x(data_key_type, 803, EIO, "file data of a kind this version cannot read")                 \
	x(data_geometry, 804, EINVAL, "sizes of blocks, extents and checksum chunks do not fit together") \
	x(data_not_encrypted, 805, EIO, "file data that are not encrypted, in an encrypted filesystem") \
	x(data_key_gen, 806, EIO, "file data encrypted by a key that the filesystem does not have") \
	x(data_key_btree, 810, EUCLEAN, "a key of file data in a btree that holds none")           \
	x(data_key_size, 811, EUCLEAN, "a key of file data without a size, or reaching below zero") \
	x(reservation_invalid, 812, EUCLEAN, "reservation: invalid key")                           \
	x(inline_data_invalid, 813, EUCLEAN, "inline data: larger than its key")                   \
	x(reflink_invalid, 814, EUCLEAN, "shared data: invalid key")                               \
	x(reflink_missing, 815, EUCLEAN, "shared data: what a file refers to is not there")        \
	x(reflink_count, 816, EUCLEAN, "shared data: counted less often than referred to")             \
	x(data_tag, 817, EIO, "data authentication error, damaged or tampered with")

/* snapshot: 900.. */
#define BCFS_ERRCODES_SNAPSHOT(x)                                                                  \
	x(no_such_subvolume, 900, ENOENT, "no such subvolume")                                     \
	x(no_such_snapshot, 901, EUCLEAN, "no such snapshot")                                      \
	x(snapshot_tree_invalid, 902, EUCLEAN, "the snapshot tree is damaged")                     \
	x(snapshot_invalid, 910, EUCLEAN, "snapshot: invalid key")                                 \
	x(snapshot_subvolume_invalid, 911, EUCLEAN, "subvolume: invalid key")

/* fs: 1000.. */
#define BCFS_ERRCODES_FS(x)                                                                        \
	x(no_such_inode, 1000, ENOENT, "no such inode")                                            \
	x(no_such_name, 1001, ENOENT, "no such file or directory")                                 \
	x(name_exists, 1002, EEXIST, "the name exists")                                            \
	x(name_too_long, 1003, ENAMETOOLONG, "the name is too long")                               \
	x(name_invalid, 1004, EINVAL, "the name is empty or has a slash or NUL")                   \
	x(not_a_directory, 1005, ENOTDIR, "not a directory")                                       \
	x(is_a_directory, 1006, EISDIR, "is a directory")                                          \
	x(dir_not_empty, 1007, ENOTEMPTY, "the directory is not empty")                            \
	x(too_many_links, 1008, EMLINK, "too many links")                                          \
	x(cross_subvolume, 1009, EXDEV, "not within one subvolume")                                \
	x(dir_loop, 1010, EINVAL, "a directory cannot be moved into itself")                       \
	x(link_dir, 1011, EPERM, "a directory cannot be linked")                                   \
	x(link_unlinked, 1012, ENOENT, "the file has no name any more")                            \
	x(mode_invalid, 1013, EINVAL, "not a file type that can be made")                          \
	x(rename_flags, 1014, EINVAL, "unknown or contradicting rename flags")                     \
	x(not_a_symlink, 1015, EINVAL, "not a symbolic link")                                      \
	x(symlink_too_long, 1016, ENAMETOOLONG, "the target is too long")                          \
	x(not_a_file, 1017, EINVAL, "not a regular file")                                          \
	x(file_too_big, 1018, EFBIG, "beyond the largest file size")                               \
	x(offset_invalid, 1019, EINVAL, "invalid offset or length")                                \
	x(fallocate_mode, 1020, EOPNOTSUPP, "this way of fallocate is not supported")              \
	x(xattr_not_found, 1021, ENODATA, "no such extended attribute")                            \
	x(xattr_exists, 1022, EEXIST, "the extended attribute exists")                             \
	x(xattr_name_invalid, 1023, EOPNOTSUPP, "extended attributes of this kind are not supported") \
	x(xattr_name_too_long, 1024, ERANGE, "the name of the extended attribute is too long")     \
	x(xattr_value_too_big, 1025, E2BIG, "the value of the extended attribute is too big")      \
	x(xattr_buffer, 1026, ERANGE, "the buffer is too small for the extended attribute")        \
	x(no_inums, 1027, ENOSPC, "no inode numbers left")                                         \
	x(immutable, 1028, EPERM, "the file is immutable")                                         \
	x(append_only, 1029, EPERM, "the file can only be appended to")                            \
	x(seek_no_data, 1030, ENXIO, "no data behind the offset")                                  \
	x(xattr_flags, 1031, EINVAL, "unknown or contradicting flags")                             \
	x(dir_removed, 1032, ENOENT, "the directory was removed")                                  \
	x(setattr_invalid, 1033, EINVAL, "invalid attributes")                                     \
	x(root_dir, 1034, EBUSY, "the root directory cannot be moved or removed")                  \
	x(inum_taken, 1035, EAGAIN, "the inode number is in use")                                  \
	x(hash_full, 1036, ENOSPC, "too many names with one hash")                                 \
	x(acl_invalid, 1037, EINVAL, "malformed ACL")                                              \
	x(acl_no_dir, 1038, EACCES, "a default ACL belongs to directories")                        \
	x(xattr_name_empty, 1040, EINVAL, "the name of the extended attribute is a namespace alone") \
	x(range_unaligned, 1041, EINVAL, "offset and length have to be multiples of the block size") \
	x(range_behind_end, 1042, EINVAL, "the range reaches to the end of the file, or beyond it") \
	x(cross_project, 1043, EXDEV, "not within one project")                                    \
	x(option_value, 1044, EINVAL, "no such value of this option")                              \
	x(removed_in_use, 1045, EBUSY, "removed files are still in use")                           \
	x(dirent_target_missing, 1050, EUCLEAN, "a directory entry leads to no inode")             \
	x(dir_cycle, 1051, EUCLEAN, "directories form a loop")                                     \
	x(xattr_piece_missing, 1052, EUCLEAN, "a piece of an extended attribute is missing")       \
	x(symlink_damaged, 1053, EUCLEAN, "a symbolic link without a whole target")                \
	x(inode_invalid, 1060, EUCLEAN, "inode: invalid key")                                      \
	x(inode_generation_invalid, 1061, EUCLEAN, "inode generation: invalid key")                \
	x(dirent_invalid, 1062, EUCLEAN, "dirent: invalid key")                                    \
	x(xattr_invalid, 1063, EUCLEAN, "xattr: invalid key")                                      \
	x(hash_whiteout_invalid, 1064, EUCLEAN, "hash whiteout: invalid key")                      \
	x(whiteout_invalid, 1065, EUCLEAN, "whiteout: invalid key")                                \
	x(set_invalid, 1066, EUCLEAN, "set: invalid key")                                          \
	x(logged_op_invalid, 1067, EUCLEAN, "logged op: invalid key")

/* core: 1100.. */
#define BCFS_ERRCODES_CORE(x)                                                                      \
	x(erofs, 1100, EROFS, "the filesystem is read-only")                                       \
	x(shutdown, 1104, EIO, "the filesystem was shut down")                                     \
	x(rekey_left, 1105, EAGAIN, "something is still encrypted with an older key")              \
	x(rekey_again, 1106, EAGAIN, "an older key may have been used meanwhile")                  \
	x(core_clean_invalid, 1101, EUCLEAN, "the superblock's clean section is damaged")          \
	x(core_no_clean, 1102, EUCLEAN, "the filesystem was never completely made")                \
	x(core_ro_features, 1103, EROFS, "features that can only be read")                         \
	x(mkfs_journal_small, 1110, EINVAL, "the journal is too small")                            \
	x(mkfs_journal_big, 1111, EINVAL, "the journal is too big for the device")                 \
	x(mkfs_bucket_size, 1112, EINVAL, "bad bucket size")                                       \
	x(mkfs_node_size, 1113, EINVAL, "bad btree node size")                                     \
	x(mkfs_chunk_size, 1114, EINVAL, "bad checksum chunk size")                                \
	x(mkfs_exists, 1115, EEXIST, "the device holds a bcfs filesystem already")                 \
	x(dump_bad_pos, 1120, EINVAL, "a position is inode[:offset[:snapshot]]")                   \
	x(dump_bad_btree, 1121, EINVAL, "no such btree")                                           \
	x(check_cancelled, 1122, ECANCELED, "the check was cancelled")                             \
	x(check_changed, 1123, EBUSY, "it was mounted since the check")                            \
	x(dump_image_unclean, 1124, EINVAL, "it was not closed cleanly: mount and unmount it first") \
	x(dump_image_write, 1125, EIO, "the image cannot be written")                              \
	x(not_mounted, 1126, ENOENT, "it is not mounted")

/* clang-format on */

#define BCFS_ERRCODES(x)                                                                           \
	BCFS_ERRCODES_UTIL(x)                                                                      \
	BCFS_ERRCODES_CODEC(x)                                                                     \
	BCFS_ERRCODES_DEV(x)                                                                       \
	BCFS_ERRCODES_SB(x)                                                                        \
	BCFS_ERRCODES_JOURNAL(x)                                                                   \
	BCFS_ERRCODES_BTREE(x)                                                                     \
	BCFS_ERRCODES_BTREE2(x)                                                                    \
	BCFS_ERRCODES_BSET(x)                                                                      \
	BCFS_ERRCODES_ALLOC(x)                                                                     \
	BCFS_ERRCODES_DATA(x)                                                                      \
	BCFS_ERRCODES_SNAPSHOT(x)                                                                  \
	BCFS_ERRCODES_FS(x)                                                                        \
	BCFS_ERRCODES_CORE(x)

enum bcfs_errcode {
#define x(name, nr, err, text) BCFS_ERR_##name = BCFS_ERR_BASE + (nr),
	BCFS_ERRCODES(x)
#undef x
};

/* Text of a code (either sign); never NULL. A plain errno gets strerror's text. */
const char *err_str(int err);
/* The symbolic name ("dev_read"), for logs; never NULL. */
const char *err_name(int err);
/* The positive errno a code maps to (either sign); a plain errno maps to itself, 0 to 0. */
int err_to_errno(int err);

/* Something on the device is damaged or cannot be read. */
bool err_is_damage(int err);

static inline int err_is_restart(int ret)
{
	return ret <= -(BCFS_ERR_BASE + 600) && ret >= -(BCFS_ERR_BASE + 649);
}

#endif
