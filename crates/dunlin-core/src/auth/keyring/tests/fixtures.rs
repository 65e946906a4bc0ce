//! Public keys and tokens that OpenSSL made and signed, so that we are not our own judge. The
//! private keys are gone. Every token says `{"sub":"42","channel":"news"}`.

/// 2048 bits.
pub(super) const RSA: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAp2/hDc6kyuzI3g8YIHuD
kYJU3Bm0vQHiiu6l2mJNdOfbx8RitaFXg7qIrYMqYT9DMt8jzRjBhu83M6gxXCvA
WKXRzgDRgEyBM7awwQeMFl8Ndz8KCis2/m0jJtFtlj/EtwK6ntX847vqQV3rjHVM
JuOShGt1DTb2+LaGwJeEMzS85jgkiZd8PxQqCoS5NYXMlMUrZdh4YZaJp9VpQjDe
LHSi1SbHEf11XNXbymUPG61Fwd/PeoZpICGIKX1lorlBzJF8R3EfboZBTFaugsmq
/RqCWB+WSoNdw82QBszQLQX6BpZ3xruMJR/nEH3vnJz6BimD8jCbXZ2V45/3Tk6U
CwIDAQAB
-----END PUBLIC KEY-----
";

/// 1024 bits, which is too short.
pub(super) const RSA_SHORT: &str = "\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCuikO4h5qGd6eXNGaSPlbPiDIS
XG37z+h5/MkB/nxGW/S7WYm4rGOBPVlXYAUd6GV0IehJqDS6AEJBu3wSqcYIQf+X
e5ZXQOiwzoCFC9IyCj8QeUdP9ZzCGi9Jlte1VMbmhRtDc8RkEusxMyReq3GiKteC
1GRAp/+BsYsLJ2r8CQIDAQAB
-----END PUBLIC KEY-----
";

/// The key of ES256.
pub(super) const P256: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEayKVrrisXmumUp9ks2JNzdUjLZIa
FyIHICVh3LG7Gfo6DFWNVaC5waDywqtpV365GRY5gt3Ttm2ljJ7a2/csXQ==
-----END PUBLIC KEY-----
";

/// The key of ES384.
pub(super) const P384: &str = "\
-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEpjUYqSPCfbaAYI6qtI7kpurrzbphtw4f
UHVt+2qeLPNyMQBAXE4zdWtWiAa+t6Xop1/ak8AINJTOIhuTP39RsIzdWT8/FAwm
vWizGnz6xRkN3AD7laEBgDZJbE9hxxgA
-----END PUBLIC KEY-----
";

/// The key of ES512.
pub(super) const P521: &str = "\
-----BEGIN PUBLIC KEY-----
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQB8qupavsHMIpw3toM0xedw55UXj4Q
swSIOXpdST5f3mjUs7DLBtpDkJrneFHZFcSNVGTIzAb8ezlbWrCUPSvW0/gA5WiT
C/iK04a6q8ghR3U7cvhDYFsFsjfWwjR2FL2xS4doVpG46maksWyBeSFxmKGKbG0W
r9u9HmfikWxsV3xBAao=
-----END PUBLIC KEY-----
";

/// The key of EdDSA.
pub(super) const ED25519: &str = "\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA/ccOuOlPq0DOVmYIw4DNIqrwZKar7S+BTbqqPhsj95Y=
-----END PUBLIC KEY-----
";

/// Signed with RS256.
pub(super) const TOKEN_RS256: &str = "\
    eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImNoYW5uZWwiOiJuZXdzIn0.imU3sV4FOsKlX\
    DuY1blc-ADngiGzj_KBTp1yl--SknsZgXyYS3BgfAOEZaTnn31tizRrjvQRK6HYD-pCRQUhuuAPwjnfDw5sz2YR7t1\
    IMFdSDCr4G_VfgDqr5zB8-_r0ooJ9vOk1X4jx_Gmr2kfyrKi-Yty09l7hvzISEDnuhYFH_Lw6vtwCJ_dJT5ESwgXrM\
    QucOa_bqD0KnXiTUfbi9LNxmA7PyqhU6AQE6JQSIX9Jp-rx2_2oGRbcWLzAPy88wBRGmFPZlgwong_BCMgoX6ZLGBW\
    GdK0V_iG7GwyY6empkczsiSfnxgrvByTqgJcWF9ZT9aCM214jVnm6rM61QQ";

/// Signed with RS384.
pub(super) const TOKEN_RS384: &str = "\
    eyJhbGciOiJSUzM4NCIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImNoYW5uZWwiOiJuZXdzIn0.mJHep7cprlq2l\
    NV0fPatAiUA3GqyGCfrf9nEIk_2KFQalskI009VrbKz7jyhopK1F8vGnhEo7GHs_ISPgniL3SpDkhE-XM_6QjgnUQi\
    eGstcXPS9NL1_BYvjx1bzrp7yYm_PUPIETYQ5oaaIcwwqQv83st8CtwpD_1Th2fomJ3X9xnUTwp3dN3I6TFw_eblnb\
    gd7GiZylpoV_2Y9jAPf_hi0LgiyneB2Qa0XQg3qnEvCw_LSOSCO1s-neD4isgWqqaWnsIR931dfNXzOMrMVg5He0tv\
    G_qWD0HsWzQHv0PxqQDd9NWoq0NmiQRqh7-7VHF-4ua039Ga9NPDkCoqEAQ";

/// Signed with RS512.
pub(super) const TOKEN_RS512: &str = "\
    eyJhbGciOiJSUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImNoYW5uZWwiOiJuZXdzIn0.K39swxN3Skpr1\
    W_qYnLmZuGVSXdieDbRKaCr_PJ2nKbckxkmqZm_jQqTHf5iMDSa4VbG8FhCucrL_8mpYRj8Kv9yjIz0jQKogPdTgpV\
    eViifXxEwqublUR1bzCdQLrqo88zS6qMdnCfjbokp6SPzmBxqc2yAL8S52bHyINqsUPEWNnir_bPQ7BBQFaDW_H7LJ\
    5O2Me7PLg8YnnKwWD84a3UgwIr6CPusAaeujCIs4X-YkwTr7erke7qPT02MaIlxZrvJsniNeBeYYkVDvxzMA0LnLP1\
    4vv48tsGOW89EgAT_hy2McToeNPMlUIrwokngMpkISloa2PRNSaAxpQP8nQ";

/// Signed with ES256.
pub(super) const TOKEN_ES256: &str = "\
    eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImNoYW5uZWwiOiJuZXdzIn0.wovawA5PLSiKZ\
    Vx6Fl1rrysAGYZex37tGZ3AhQznH17o4QHsrCW1CzWa--JJgovfx9C4xezY9IRJYBTe9FUuTQ";

/// Signed with ES384.
pub(super) const TOKEN_ES384: &str = "\
    eyJhbGciOiJFUzM4NCIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImNoYW5uZWwiOiJuZXdzIn0.IDSPysO-QQnVU\
    _l07pfotqIBFsRlaSnClKRLx8U5TCba-YgLnImllvksciSgCZ7bhBMBHhHYbhxeCRlnKS_OYIUtPnszviUX4B-uz4K\
    xgIRoQN2jUruL8O5DQ0Fx-FnU";

/// Signed with ES512.
pub(super) const TOKEN_ES512: &str = "\
    eyJhbGciOiJFUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImNoYW5uZWwiOiJuZXdzIn0.AQjRuwKh606fl\
    Ls4C_Oz8Tn6Qjxty59OSr_NycfZVyWau-g6vDP-x9zitWSY4nbV7h83U4KVSlOAyS2Msdko8zV8ASNX_HkzQRtsNpu\
    JsJlfBAIUnIZRcpRECUwAQ66-_DY0VwDjiJ6VJDDPOMUvjfZpKqcWZxNPq6u42NNoL2bDOf5S";

/// Signed with EdDSA.
pub(super) const TOKEN_EDDSA: &str = "\
    eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImNoYW5uZWwiOiJuZXdzIn0.UY_cahMJi2JrM\
    pnJbpTsdbZ6gnR3vz5trVrcZ40wzhjFR958aqy2-nuQuzUjiE1mT_TRWbsL3cGLEAzx124TBA";

/// Signed with RS256; its `kid` is rsa.
pub(super) const NAMED_RSA: &str = "\
    eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InJzYSJ9.eyJzdWIiOiI0MiIsImNoYW5uZWwiOiJuZXdzI\
    n0.g9jXwvVEIzvwBtal5Zprp7wH2DVkiWxOWYwvBMPsvzW76VZ1pB0HFevBCPzfIGQLefBFBf1XWI0T86A9NjAwVik\
    jTKVYZsWu43r9ENfC1IXL7sgfw2HoVqUIVQj38nobae2YnsIeOaNDSqUGyBqgaVUgCyoxZKwaU5xsh3SlvQsQ_7k8j\
    ulfkkgI9iNnxgyJEJDlGcPhJF_0N_VZPDpxJWMJASlSjL_YXRQooF7B0em2XtQLcx-xpOHS6AMNHwRJEAtzmi1DExr\
    TZ7cqdeiXoU4yzehHu8x2-hy8depQTKSahrHetQLikTLtKE_KQCwcKHzJrwN4Ah-6AWJMPaFRgA";

/// Signed with ES256; its `kid` is p256.
pub(super) const NAMED_P256: &str = "\
    eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InAyNTYifQ.eyJzdWIiOiI0MiIsImNoYW5uZWwiOiJuZXd\
    zIn0.N-qce2_sEa-tBWWIeTF679Z8r2-jOJZNtR2F2orCH_j9n_QpiOte9laHpVEIl3NKXHT3p9vgrJnBxGluC38CE\
    w";

/// Signed with ES384; its `kid` is p384.
pub(super) const NAMED_P384: &str = "\
    eyJhbGciOiJFUzM4NCIsInR5cCI6IkpXVCIsImtpZCI6InAzODQifQ.eyJzdWIiOiI0MiIsImNoYW5uZWwiOiJuZXd\
    zIn0.1qHEgH9V3m1d-ugRVo2BNK9huBB6c6ZMV4bOBZgoHnYsCr8GtzXZxtGwLCAQN7rYziaQjKcMaw_mJU60Ov-3_\
    wlBTqJ9NHZ6RSIz_r-tz2bon93wWQDu5LfnCXW2MFBn";

/// Signed with ES512; its `kid` is p521.
pub(super) const NAMED_P521: &str = "\
    eyJhbGciOiJFUzUxMiIsInR5cCI6IkpXVCIsImtpZCI6InA1MjEifQ.eyJzdWIiOiI0MiIsImNoYW5uZWwiOiJuZXd\
    zIn0.AagBiAI3NiWC_tlcPk4MxvMxOJQxUK4y2CqZXjtUICtXMxnxLJypovzh6fZkpDG7KJYGcljgUc1Pz1D0xqZki\
    avaAGdtUtlKocWRdjFZDQ5VBj8oFyyBRExCrnXJOx2O-lyN7IgBpAPNc7qtzqKiqvAfJWyHzxCivh81mtqlFt-qJYj\
    x";

/// Signed with EdDSA; its `kid` is ed.
pub(super) const NAMED_ED: &str = "\
    eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6ImVkIn0.eyJzdWIiOiI0MiIsImNoYW5uZWwiOiJuZXdzIn\
    0.ikMcrhXPlBsnazboCp0bCf0e3DS-KmJsvSaD-QFlGcKJp8ZkGDahgPY-y7E54HaMXTothObWC65r940CZtnNAw";

/// The public keys as a key set, and three keys of no use.
pub(super) const KEY_SET: &[u8] = include_bytes!("key_set.json");
