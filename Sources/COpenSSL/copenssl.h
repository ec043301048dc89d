// OpenSSL 3, and its function-like macros as functions: Swift cannot import macros with arguments.
#pragma once
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdint.h>

// Contexts.
static inline long umbra_ctx_set_mode(SSL_CTX *ctx, long mode) { return SSL_CTX_set_mode(ctx, mode); }
static inline int umbra_ctx_set_min_version(SSL_CTX *ctx, int version) {
    return (int)SSL_CTX_set_min_proto_version(ctx, version);
}
static inline int umbra_ctx_set_max_version(SSL_CTX *ctx, int version) {
    return (int)SSL_CTX_set_max_proto_version(ctx, version);
}
static inline int umbra_ctx_set_groups(SSL_CTX *ctx, const char *list) {
    return (int)SSL_CTX_set1_groups_list(ctx, list);
}
static inline void umbra_ctx_set_cache_mode(SSL_CTX *ctx, long mode) {
    SSL_CTX_set_session_cache_mode(ctx, mode);
}
static inline int umbra_ctx_add_chain(SSL_CTX *ctx, X509 *certificate) {
    return (int)SSL_CTX_add1_chain_cert(ctx, certificate);
}
static inline void umbra_ctx_set_read_ahead(SSL_CTX *ctx, int on) { SSL_CTX_set_read_ahead(ctx, on); }
static inline void umbra_ctx_set_servername(SSL_CTX *ctx, int (*call)(SSL *, int *, void *), void *argument) {
    SSL_CTX_set_tlsext_servername_callback(ctx, call);
    SSL_CTX_set_tlsext_servername_arg(ctx, argument);
}
static inline void umbra_ctx_set_status(SSL_CTX *ctx, int (*call)(SSL *, void *), void *argument) {
    SSL_CTX_set_tlsext_status_cb(ctx, call);
    SSL_CTX_set_tlsext_status_arg(ctx, argument);
}
static inline void umbra_ctx_set_ticket_keys(
    SSL_CTX *ctx, int (*call)(SSL *, unsigned char *, unsigned char *, EVP_CIPHER_CTX *, EVP_MAC_CTX *, int)) {
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, call);
}
static inline void *umbra_ctx_app_data(const SSL_CTX *ctx) { return SSL_CTX_get_app_data(ctx); }
static inline void umbra_ctx_set_app_data(SSL_CTX *ctx, void *data) { SSL_CTX_set_app_data(ctx, data); }

// Sessions.
static inline int umbra_ssl_set_hostname(SSL *ssl, const char *name) {
    return (int)SSL_set_tlsext_host_name(ssl, name);
}
static inline long umbra_ssl_set_status(SSL *ssl, unsigned char *response, long count) {
    return SSL_set_tlsext_status_ocsp_resp(ssl, response, count);
}
static inline int umbra_ssl_new_index(CRYPTO_EX_free *release) {
    return SSL_get_ex_new_index(0, NULL, NULL, NULL, release);
}

// The memory BIO that a PEM text is read from.
static inline BIO *umbra_bio_memory(const void *bytes, int count) { return BIO_new_mem_buf(bytes, count); }
static inline long umbra_bio_data(BIO *bio, char **start) { return BIO_get_mem_data(bio, start); }
static inline void umbra_bio_retry_read(BIO *bio) { BIO_clear_retry_flags(bio); BIO_set_retry_read(bio); }
static inline void umbra_bio_retry_write(BIO *bio) { BIO_clear_retry_flags(bio); BIO_set_retry_write(bio); }
static inline void umbra_bio_clear_retry(BIO *bio) { BIO_clear_retry_flags(bio); }

// A name as text, as RFC 4514 has it.
static inline int umbra_print_name(BIO *bio, const X509_NAME *name) {
    return X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253);
}

// Stacks are typed by macros.
static inline int umbra_names_count(const GENERAL_NAMES *names) { return sk_GENERAL_NAME_num(names); }
static inline GENERAL_NAME *umbra_names_at(const GENERAL_NAMES *names, int place) {
    return sk_GENERAL_NAME_value(names, place);
}
static inline int umbra_name_type(const GENERAL_NAME *name) { return name->type; }
static inline const ASN1_STRING *umbra_name_dns(const GENERAL_NAME *name) { return name->d.dNSName; }
static inline int umbra_key_security_bits(const EVP_PKEY *key) { return EVP_PKEY_get_security_bits(key); }
static inline int umbra_reason(unsigned long code) { return ERR_GET_REASON(code); }
static inline int umbra_library(unsigned long code) { return ERR_GET_LIB(code); }

// Ticket keys: the cipher and the MAC of one ticket (RFC 5077 §4).
static inline int umbra_mac_set_key(EVP_MAC_CTX *mac, const unsigned char *key, size_t count) {
    OSSL_PARAM parameters[3];
    parameters[0] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key, count);
    parameters[1] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0);
    parameters[2] = OSSL_PARAM_construct_end();
    return EVP_MAC_CTX_set_params(mac, parameters);
}
static inline void *umbra_openssl_malloc(size_t count) { return OPENSSL_malloc(count); }
static inline void umbra_openssl_free(void *memory) { OPENSSL_free(memory); }
