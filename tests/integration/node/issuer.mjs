// A certified OpenID provider on loopback: client_credentials for one resource, JWT access tokens.
// usage: node issuer.mjs SETTINGS.json  ({port, issuer, secret, jwks: {keys: [JWK or {pem, kid, alg}]}})
import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Provider } from 'oidc-provider';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const keys = settings.jwks.keys.map(({ pem, ...jwk }) => (
  pem ? { ...createPrivateKey(pem).export({ format: 'jwk' }), use: 'sig', ...jwk } : jwk));
const ALGORITHMS = ['RS256', 'ES256', 'PS256', 'EdDSA'];
const SCOPES = ALGORITHMS.map((alg) => `sign:${alg}`);
const client = (id) => ({
  client_id: id,
  client_secret: settings.secret,
  grant_types: ['client_credentials'],
  response_types: [],
  redirect_uris: [],
  scope: SCOPES.join(' '),
});

const provider = new Provider(settings.issuer, {
  jwks: { keys },
  clients: [client('airflow-worker'), client('airflow-reader'), client('stranger')],
  scopes: SCOPES,
  enabledJWA: { idTokenSigningAlgValues: ALGORITHMS },
  extraTokenClaims: (ctx, token) => ({
    sub: token.clientId,
    roles: { 'airflow-worker': ['operator'], 'airflow-reader': ['reader'] }[token.clientId] ?? [],
  }),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource) => ({
        audience: resource,
        scope: SCOPES.join(' '),
        accessTokenFormat: 'jwt',
        accessTokenTTL: 600,
        jwt: { sign: { alg: (ctx.oidc.params.scope ?? 'sign:RS256').slice('sign:'.length) } },
      }),
    },
  },
});
provider.listen(settings.port, '127.0.0.1');
process.on('SIGTERM', () => process.exit(0));
