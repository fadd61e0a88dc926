/* The configuration of an agent: a few keys in YAML, as strict as that of the proxy. */
#include <stdlib.h>

#include "agent.h"
#include "dagward/confine/confine.h"
#include "dagward/yaml/yaml.h"

static const struct str keys[] = {{"listen", 6}, {"socket", 6}, {"proxy", 5}, {"ca", 2},
        {"token_file", 10}, {"user", 4}, {"askpass", 7}, {"confine", 7}};
enum { KEYS = sizeof(keys) / sizeof(keys[0]) };

/* A text that lives as long as the settings; paths are joined to the folder of the file. */
static struct str kept(struct agent_settings *out, struct str text, const char *folder)
{
        struct str copy = folder && folder[0] && text.len && text.ptr[0] != '/'
                                  ? arena_printf(&out->arena, "%s/%.*s", folder, STR_FMT(text))
                                  : arena_copy(&out->arena, text);
        if (!copy.ptr)
                abort();
        return copy;
}

static void read_text(const struct yaml_node *root, const char *key, const char *folder,
        struct agent_settings *settings, struct str *out, struct error_list *errors)
{
        const struct yaml_node *node = yaml_get(root, key);
        char what[40];
        struct str text;

        snprintf(what, sizeof(what), "`%s`", key);
        if (node && yaml_str(node, what, &text, errors))
                *out = kept(settings, text, folder);
}

static void read_proxy(
        const struct yaml_node *root, struct agent_settings *out, struct error_list *errors)
{
        const struct yaml_node *node = yaml_get(root, "proxy");
        struct error why = {{0}};
        struct str text;

        if (!node) {
                error_list_add(errors, root->at, "`proxy` is missing: the URL of the proxy");
                return;
        }
        if (!yaml_str(node, "`proxy`", &text, errors))
                return;
        text = kept(out, text, NULL);
        if (!config_url_parse(&out->arena, text, &out->proxy, &why))
                error_list_add(errors, node->at, "`proxy`: %s", why.text);
        else if (out->proxy.path.len > 1)
                error_list_add(errors, node->at, "`proxy` is a URL without a path");
        else if (!out->proxy.https && !out->proxy.loopback)
                error_list_add(errors, node->at,
                        "`proxy` must be https://: the token would cross the network in the clear");
}

/* `127.0.0.1:8021`: others on the network would be served with the token. */
static void read_listen(
        const struct yaml_node *root, struct agent_settings *out, struct error_list *errors)
{
        const struct yaml_node *node = yaml_get(root, "listen");
        struct str host, port, text;
        uint64_t number;

        if (!node || !yaml_str(node, "`listen`", &text, errors))
                return;
        ssize_t colon = (ssize_t)text.len - 1;
        while (colon >= 0 && text.ptr[colon] != ':')
                colon--;
        host = str_head(text, colon < 0 ? 0 : (size_t)colon);
        port = str_from(text, (size_t)(colon + 1));
        bool loopback = str_eq(host, STR("localhost")) || str_eq(host, STR("[::1]")) ||
                        str_starts(host, STR("127."));
        if (colon < 0 || !str_to_u64(port, &number) || number > UINT16_MAX)
                error_list_add(
                        errors, node->at, "`listen` is an address and a port: 127.0.0.1:8021");
        else if (!loopback)
                error_list_add(errors, node->at,
                        "`listen` must be on loopback (127.0.0.1, [::1], localhost): whoever "
                        "reaches the agent has the token's rights");
        else
                out->listen = kept(out, text, NULL);
}

static void read_confine(
        const struct yaml_node *root, struct agent_settings *out, struct error_list *errors)
{
        static const char *const modes[] = {
                [CONFINE_AUTO] = "auto", [CONFINE_OFF] = "off", [CONFINE_REQUIRE] = "require"};
        const struct yaml_node *node = yaml_get(root, "confine");
        struct str text;

        if (!node || !yaml_str(node, "`confine`", &text, errors))
                return;
        for (unsigned i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
                if (str_eq(text, str_of(modes[i]))) {
                        out->confine = i;
                        return;
                }
        }
        error_list_add(errors, node->at, "`confine` is one of auto, off, require");
}

bool agent_settings_load(const char *path, struct agent_settings *out, struct error_list *errors)
{
        size_t before = errors->errors;
        struct yaml_document doc;
        char *folder = str_dup(str_of(path));
        char *slash = strrchr(folder, '/');

        *out = (struct agent_settings){0};
        arena_init(&out->arena, 4096, 256 * 1024);
        if (slash)
                slash[slash == folder] = '\0';
        else
                folder[0] = '\0';
        if (yaml_load_file(path, &doc, errors)) {
                const struct yaml_node *root = doc.root;
                if (yaml_is_mapping(root, "the configuration", errors) &&
                        yaml_known_keys(root, keys, KEYS, errors)) {
                        const struct yaml_node *askpass = yaml_get(root, "askpass");
                        out->user = STR("airflow");
                        read_proxy(root, out, errors);
                        read_listen(root, out, errors);
                        read_text(root, "socket", folder, out, &out->socket, errors);
                        read_text(root, "ca", folder, out, &out->ca, errors);
                        read_text(root, "token_file", folder, out, &out->token_file, errors);
                        read_text(root, "user", NULL, out, &out->user, errors);
                        read_confine(root, out, errors);
                        if (askpass)
                                (void)yaml_bool(askpass, "`askpass`", &out->askpass, errors);
                        if (!out->token_file.ptr)
                                error_list_add(errors, root->at,
                                        "`token_file` is missing: where the caller's token is");
                        if (errors->errors == before && !out->listen.ptr && !out->socket.ptr)
                                error_list_add(errors, root->at,
                                        "one of `listen` and `socket` has to be there");
                }
                yaml_clear(&doc);
        }
        free(folder);
        if (errors->errors == before)
                return true;
        arena_clear(&out->arena);
        return false;
}

/* --- the token --- */

enum { TOKEN_MOST = 16 * 1024 };

bool agent_token_read(const char *path, struct secret *token, struct error *err)
{
        if (!secret_read(token, path, TOKEN_MOST, err))
                return false;
        struct str text = secret_reveal(token);
        for (size_t i = 0; i < text.len; i++) {
                char c = char_lower(text.ptr[i]);
                bool good =
                        (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("-._~+/=", c);
                if (good && c)
                        continue;
                secret_drop(token);
                return error_set(err, "%s does not hold a token", path);
        }
        return true;
}
