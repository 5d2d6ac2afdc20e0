// Who did what in the organization.

import { html } from '../html.mjs';
import { AuditTrail } from '../parts/audit_trail.mjs';
import { Screen } from '../parts/screen.mjs';

export function AuditLog({ org }) {
  return html`<${Screen} title="Audit log"><${AuditTrail} org=${org} /><//>`;
}
