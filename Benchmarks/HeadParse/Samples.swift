/// Messages as they come by every day, each with its name in tables and in `bounds`.
enum Sample: String, CaseIterable {
    case curl = "curl-get"
    case service = "service-get"
    case browser = "browser-get"
    case post = "json-post"
    case nginx = "nginx-answer"
    case app = "app-answer"
    case chunked = "chunked-16k"
    case tinyChunks = "tiny-chunks"
    case rewrite = "rewrite-service"

    /// The bytes, as a literal: nothing is built when the benchmark runs.
    var text: StaticString {
        switch self {
        case .curl:
            """
            GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.5.0\r\n\
            Accept: */*\r\n\r\n
            """
        case .service, .rewrite:
            """
            GET /api/v1/items/48213?expand=owner,tags&limit=50 HTTP/1.1\r\n\
            Host: shop.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) \
            AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36\r\n\
            Accept: application/json, text/plain, */*\r\nAccept-Language: en-US,en;q=0.9\r\n\
            Accept-Encoding: gzip, deflate, br\r\nReferer: https://shop.example.com/items\r\n\
            X-Request-Id: 7f3c2a10-5b1e-4c7d-9a55-0d7c1e2f3a4b\r\nConnection: keep-alive\r\n\r\n
            """
        case .browser:
            """
            GET /products/overview/2024?utm_source=newsletter&utm_medium=email&page=2 HTTP/1.1\r\n\
            Host: www.example.com\r\nConnection: keep-alive\r\nCache-Control: max-age=0\r\n\
            sec-ch-ua: "Chromium";v="126", "Google Chrome";v="126", "Not.A/Brand";v="24"\r\n\
            sec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: "Linux"\r\nUpgrade-Insecure-Requests: 1\r\n\
            User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
            Chrome/126.0.0.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,\
            application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\nSec-Fetch-Site: same-origin\r\n\
            Sec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n\
            Referer: https://www.example.com/products\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
            Accept-Language: en-US,en;q=0.9,de;q=0.8\r\nCookie: session=2f1c9e7ab3d44f0f; \
            theme=dark; consent=analytics:1|ads:0\r\n\r\n
            """
        case .post:
            """
            POST /v1/chat/completions HTTP/1.1\r\nHost: api.example.com:8443\r\n\
            User-Agent: python-requests/2.32.3\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n\
            Connection: keep-alive\r\nAuthorization: Bearer sk-0123456789abcdef0123456789abcdef\r\n\
            traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
            X-Forwarded-For: 203.0.113.7\r\nContent-Type: application/json\r\n\
            Content-Length: 1834\r\n\r\n
            """
        case .nginx:
            """
            HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 06 Jul 2024 10:11:12 GMT\r\n\
            Content-Type: text/html\r\nContent-Length: 1024\r\n\
            Last-Modified: Fri, 05 Jul 2024 08:00:00 GMT\r\nConnection: keep-alive\r\n\
            ETag: "6687a980-400"\r\nAccept-Ranges: bytes\r\n\r\n
            """
        case .app:
            """
            HTTP/1.1 200 OK\r\nDate: Sat, 06 Jul 2024 10:11:12 GMT\r\n\
            Content-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\
            Connection: keep-alive\r\nCache-Control: no-store, no-cache, must-revalidate\r\n\
            Set-Cookie: session=2f1c9e7ab3d44f0f; Path=/; Secure; HttpOnly; SameSite=Lax\r\n\
            Strict-Transport-Security: max-age=63072000; includeSubDomains\r\n\
            X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
            X-Request-Id: 7f3c2a10-5b1e-4c7d-9a55-0d7c1e2f3a4b\r\nVary: Accept-Encoding\r\n\r\n
            """
        case .chunked: "400\r\n"
        case .tinyChunks: "1\r\nx\r\n"
        }
    }

    var about: StaticString {
        switch self {
        case .curl: "request head, curl"
        case .service: "request head, a service's client"
        case .browser: "request head, a browser's navigation"
        case .post: "request head, an API call"
        case .nginx: "answer head, static file"
        case .app: "answer head, an application"
        case .chunked: "chunked body, 16 chunks of 1 KiB"
        case .tinyChunks: "chunked body, 256 chunks of 1 byte"
        case .rewrite: "request head parsed, then written without its hop-by-hop fields"
        }
    }
}
