//! The numbers of nf_tables' netlink interface (linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h).

/// NFNL_SUBSYS_NFTABLES.
pub(super) const SUBSYSTEM: u8 = 10;
/// NFNL_MSG_BATCH_*: types without a subsystem.
pub(super) const BATCH_BEGIN: u8 = 16;
pub(super) const BATCH_END: u8 = 17;
/// NLM_F_APPEND.
pub(super) const APPEND: u16 = 0x800;

/// NFT_MSG_*.
pub(super) const NEW_TABLE: u8 = 0;
pub(super) const DELETE_TABLE: u8 = 2;
pub(super) const NEW_CHAIN: u8 = 3;
pub(super) const GET_CHAINS: u8 = 4;
pub(super) const DELETE_CHAIN: u8 = 5;
pub(super) const NEW_RULE: u8 = 6;
pub(super) const GET_RULES: u8 = 7;
pub(super) const DELETE_RULE: u8 = 8;
pub(super) const NEW_SET: u8 = 9;
pub(super) const GET_SETS: u8 = 10;
pub(super) const NEW_ELEMENTS: u8 = 12;
pub(super) const GET_ELEMENTS: u8 = 13;
pub(super) const DELETE_SET: u8 = 11;
pub(super) const DELETE_ELEMENTS: u8 = 14;
pub(super) const NEW_OBJECT: u8 = 18;
pub(super) const GET_OBJECTS: u8 = 19;
pub(super) const DELETE_OBJECT: u8 = 20;
pub(super) const GET_GENERATION: u8 = 16;
pub(super) const GET_TABLES: u8 = 1;

/// NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, NFTA_SET_ELEM_LIST_TABLE, NFTA_OBJ_TABLE.
pub(super) const OF_TABLE: u16 = 1;
/// NFTA_TABLE_*, NFT_TABLE_F_OWNER (Linux 5.12), NFT_TABLE_F_PERSIST (Linux 6.9). The last known of each kind of object is that of Linux 6.18.
pub(super) const TABLE_FLAGS: u16 = 2;
pub(super) const TABLE_USE: u16 = 3;
pub(super) const TABLE_HANDLE: u16 = 4;
pub(super) const TABLE_PADDING: u16 = 5;
pub(super) const TABLE_OWNER: u16 = 7;
pub(super) const TABLE_LAST_KNOWN: u16 = 7;
pub(super) const TABLE_IS_OWNER: u32 = 2;
pub(super) const TABLE_PERSISTS: u32 = 4;
/// NFTA_LIST_ELEM.
pub(super) const LIST_ELEMENT: u16 = 1;
/// NFTA_GEN_ID.
pub(super) const GENERATION_ID: u16 = 1;

/// NFTA_CHAIN_*, NFT_CHAIN_BASE, NFTA_HOOK_*.
pub(super) const CHAIN_HANDLE: u16 = 2;
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const CHAIN_HOOK: u16 = 4;
pub(super) const CHAIN_POLICY: u16 = 5;
pub(super) const CHAIN_USE: u16 = 6;
pub(super) const CHAIN_TYPE: u16 = 7;
pub(super) const CHAIN_PADDING: u16 = 9;
pub(super) const CHAIN_FLAGS: u16 = 10;
pub(super) const CHAIN_LAST_KNOWN: u16 = 12;
pub(super) const CHAIN_IS_BASE: u32 = 1;
pub(super) const HOOK_NUMBER: u16 = 1;
pub(super) const HOOK_PRIORITY: u16 = 2;

/// NFTA_RULE_*, NFTA_EXPR_*, NFTNL_UDATA_RULE_COMMENT of libnftnl.
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_HANDLE: u16 = 3;
pub(super) const RULE_EXPRESSIONS: u16 = 4;
pub(super) const RULE_POSITION: u16 = 6;
pub(super) const RULE_USERDATA: u16 = 7;
pub(super) const RULE_PADDING: u16 = 8;
pub(super) const RULE_LAST_KNOWN: u16 = 11;
pub(super) const USERDATA_COMMENT: u8 = 0;
pub(super) const EXPRESSION_NAME: u16 = 1;
pub(super) const EXPRESSION_DATA: u16 = 2;

/// NFTA_SET_*, NFTA_SET_DESC_*, NFT_SET_*.
pub(super) const SET_NAME: u16 = 2;
pub(super) const SET_FLAGS: u16 = 3;
pub(super) const SET_KEY_TYPE: u16 = 4;
pub(super) const SET_KEY_LENGTH: u16 = 5;
pub(super) const SET_DATA_TYPE: u16 = 6;
pub(super) const SET_DATA_LENGTH: u16 = 7;
pub(super) const SET_POLICY: u16 = 8;
pub(super) const SET_DESCRIPTION: u16 = 9;
pub(super) const SET_ID: u16 = 10;
pub(super) const SET_TIMEOUT: u16 = 11;
pub(super) const SET_USERDATA: u16 = 13;
pub(super) const SET_PADDING: u16 = 14;
pub(super) const SET_HANDLE: u16 = 16;
pub(super) const SET_TYPE: u16 = 19;
pub(super) const SET_COUNT: u16 = 20;
pub(super) const SET_LAST_KNOWN: u16 = 20;
pub(super) const DESCRIPTION_SIZE: u16 = 1;
pub(super) const DESCRIPTION_OF_PARTS: u16 = 2;
pub(super) const SET_HAS_INTERVALS: u32 = 0x4;
pub(super) const SET_IS_MAP: u32 = 0x8;
pub(super) const SET_HAS_TIMEOUT: u32 = 0x10;
pub(super) const SET_IS_DYNAMIC: u32 = 0x20;
/// NFT_DATA_VERDICT.
pub(super) const DATA_IS_VERDICT: u32 = 0xffff_ff00;

/// NFTA_SET_ELEM_LIST_*, NFTA_SET_ELEM_*, NFT_SET_ELEM_INTERVAL_END.
pub(super) const ELEMENTS_SET: u16 = 2;
pub(super) const ELEMENTS: u16 = 3;
pub(super) const ELEMENTS_LAST_KNOWN: u16 = 4;
pub(super) const ELEMENT_KEY: u16 = 1;
pub(super) const ELEMENT_DATA: u16 = 2;
pub(super) const ELEMENT_FLAGS: u16 = 3;
pub(super) const ELEMENT_USERDATA: u16 = 6;
pub(super) const ELEMENT_PADDING: u16 = 8;
pub(super) const ELEMENT_LAST_KNOWN: u16 = 11;
pub(super) const ELEMENT_ENDS_RANGE: u32 = 1;

/// NFTA_DATA_*, NFTA_VERDICT_*.
pub(super) const DATA_VALUE: u16 = 1;
pub(super) const DATA_VERDICT: u16 = 2;
pub(super) const VERDICT_CODE: u16 = 1;
pub(super) const VERDICT_CHAIN: u16 = 2;

/// NF_*, and enum nft_verdicts.
pub(super) const NF_DROP: i32 = 0;
pub(super) const NF_ACCEPT: i32 = 1;
pub(super) const NFT_JUMP: i32 = -3;
pub(super) const NFT_GOTO: i32 = -4;
pub(super) const NFT_RETURN: i32 = -5;

/// NFTA_CMP_*.
pub(super) const CMP_SOURCE: u16 = 1;
pub(super) const CMP_OPERATOR: u16 = 2;
pub(super) const CMP_DATA: u16 = 3;
/// NFTA_BITWISE_*, NFT_BITWISE_MASK_XOR.
pub(super) const BITWISE_SOURCE: u16 = 1;
pub(super) const BITWISE_DESTINATION: u16 = 2;
pub(super) const BITWISE_LENGTH: u16 = 3;
pub(super) const BITWISE_MASK: u16 = 4;
pub(super) const BITWISE_XOR: u16 = 5;
pub(super) const BITWISE_OPERATION: u16 = 6;
pub(super) const BITWISE_MASK_AND_XOR: u32 = 0;
/// NFTA_LOOKUP_*, NFT_LOOKUP_F_INV.
pub(super) const LOOKUP_SET: u16 = 1;
pub(super) const LOOKUP_SOURCE: u16 = 2;
pub(super) const LOOKUP_DESTINATION: u16 = 3;
pub(super) const LOOKUP_FLAGS: u16 = 5;
pub(super) const LOOKUP_IS_INVERTED: u32 = 1;
/// NFTA_DYNSET_*, NFT_DYNSET_OP_UPDATE.
pub(super) const DYNSET_SET: u16 = 1;
pub(super) const DYNSET_OPERATION: u16 = 3;
pub(super) const DYNSET_KEY: u16 = 4;
pub(super) const DYNSET_TIMEOUT: u16 = 6;
pub(super) const DYNSET_EXPRESSION: u16 = 7;
pub(super) const DYNSET_PADDING: u16 = 8;
pub(super) const DYNSET_FLAGS: u16 = 9;
pub(super) const DYNSET_UPDATE: u32 = 1;
/// NFTA_LIMIT_*, NFT_LIMIT_PKTS.
pub(super) const LIMIT_RATE: u16 = 1;
pub(super) const LIMIT_UNIT: u16 = 2;
pub(super) const LIMIT_BURST: u16 = 3;
pub(super) const LIMIT_TYPE: u16 = 4;
pub(super) const LIMIT_FLAGS: u16 = 5;
pub(super) const LIMIT_PADDING: u16 = 6;
pub(super) const LIMIT_OF_PACKETS: u32 = 0;
/// NFTA_COUNTER_*.
pub(super) const COUNTER_BYTES: u16 = 1;
pub(super) const COUNTER_PACKETS: u16 = 2;
pub(super) const COUNTER_PADDING: u16 = 3;
/// NFTA_LOG_*.
pub(super) const LOG_GROUP: u16 = 1;
pub(super) const LOG_PREFIX: u16 = 2;
/// NFTA_IMMEDIATE_*.
pub(super) const IMMEDIATE_DESTINATION: u16 = 1;
pub(super) const IMMEDIATE_DATA: u16 = 2;
/// NFTA_PAYLOAD_*.
pub(super) const PAYLOAD_DESTINATION: u16 = 1;
pub(super) const PAYLOAD_BASE: u16 = 2;
pub(super) const PAYLOAD_OFFSET: u16 = 3;
pub(super) const PAYLOAD_LENGTH: u16 = 4;
/// NFTA_META_*.
pub(super) const META_DESTINATION: u16 = 1;
pub(super) const META_KEY: u16 = 2;
pub(super) const META_SOURCE: u16 = 3;

/// NFTA_BYTEORDER_*, NFT_BYTEORDER_HTON.
pub(super) const BYTEORDER_SOURCE: u16 = 1;
pub(super) const BYTEORDER_DESTINATION: u16 = 2;
pub(super) const BYTEORDER_OPERATION: u16 = 3;
pub(super) const BYTEORDER_LENGTH: u16 = 4;
pub(super) const BYTEORDER_SIZE: u16 = 5;
pub(super) const BYTEORDER_HTON: u32 = 1;

/// NFT_REG_VERDICT, NFT_REG_1.
pub(super) const VERDICT_REGISTER: u32 = 0;
pub(super) const FIRST_REGISTER: u32 = 1;
/// NFT_REG32_00.
const FIRST_WORD: u32 = 8;

/// The register that is this many 4-byte words after the first, as the kernel reports it.
pub(super) fn register(word: u32) -> u32 {
    if word.is_multiple_of(4) { FIRST_REGISTER + word / 4 } else { FIRST_WORD + word }
}

/// NFTA_CT_*.
pub(super) const CONNECTION_DESTINATION: u16 = 1;
pub(super) const CONNECTION_KEY: u16 = 2;
/// NFTA_FIB_*, NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_SADDR.
pub(super) const FIB_DESTINATION: u16 = 1;
pub(super) const FIB_RESULT: u16 = 2;
pub(super) const FIB_FLAGS: u16 = 3;
pub(super) const FIB_ADDRESS_TYPE: u32 = 3;
pub(super) const FIB_OF_SOURCE: u32 = 1;
/// NFTA_REJECT_*.
pub(super) const REJECT_TYPE: u16 = 1;
pub(super) const REJECT_CODE: u16 = 2;
/// NFTA_OBJREF_IMM_*, NFT_OBJECT_COUNTER.
pub(super) const OBJECT_REFERENCE_TYPE: u16 = 1;
pub(super) const OBJECT_REFERENCE_NAME: u16 = 2;
pub(super) const OBJECT_IS_COUNTER: u32 = 1;
/// NFTA_OBJ_*.
pub(super) const OBJECT_NAME: u16 = 2;
pub(super) const OBJECT_TYPE: u16 = 3;
pub(super) const OBJECT_DATA: u16 = 4;
pub(super) const OBJECT_USE: u16 = 5;
pub(super) const OBJECT_HANDLE: u16 = 6;
pub(super) const OBJECT_PADDING: u16 = 7;
pub(super) const OBJECT_USERDATA: u16 = 8;
pub(super) const OBJECT_LAST_KNOWN: u16 = 8;
