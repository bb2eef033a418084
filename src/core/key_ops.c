// SPDX-License-Identifier: LGPL-2.1-or-later
/* Every key type's behaviour in one table: the registry. */
#include "core/core.h"

void core_fill_key_ops(struct bkey_ops_table *t)
{
	*t = (struct bkey_ops_table){
		.ops = {
			[KEY_TYPE_whiteout] = &bkey_ops_whiteout,
			[KEY_TYPE_hash_whiteout] = &bkey_ops_hash_whiteout,
			[KEY_TYPE_cookie] = &bkey_ops_cookie,
			[KEY_TYPE_error] = &bkey_ops_error_key,
			[KEY_TYPE_btree_ptr] = &bkey_ops_btree_ptr,
			[KEY_TYPE_extent] = &bkey_ops_extent,
			[KEY_TYPE_reservation] = &bkey_ops_reservation,
			[KEY_TYPE_inline_data] = &bkey_ops_inline_data,
			[KEY_TYPE_reflink_p] = &bkey_ops_reflink_p,
			[KEY_TYPE_reflink_v] = &bkey_ops_reflink_v,
			[KEY_TYPE_inode] = &bkey_ops_inode,
			[KEY_TYPE_inode_generation] = &bkey_ops_inode_generation,
			[KEY_TYPE_dirent] = &bkey_ops_dirent,
			[KEY_TYPE_xattr] = &bkey_ops_xattr,
			[KEY_TYPE_alloc] = &bkey_ops_alloc,
			[KEY_TYPE_set] = &bkey_ops_set,
			[KEY_TYPE_backpointer] = &bkey_ops_backpointer,
			[KEY_TYPE_lru] = &bkey_ops_lru,
			[KEY_TYPE_snapshot] = &bkey_ops_snapshot,
			[KEY_TYPE_snapshot_tree] = &bkey_ops_snapshot_tree,
			[KEY_TYPE_subvolume] = &bkey_ops_subvolume,
			[KEY_TYPE_logged_op_truncate] = &bkey_ops_logged_op_truncate,
			[KEY_TYPE_logged_op_finsert] = &bkey_ops_logged_op_finsert,
			[KEY_TYPE_accounting] = &bkey_ops_accounting,
			[KEY_TYPE_bucket_gens] = &bkey_ops_bucket_gens,
		}};
}
